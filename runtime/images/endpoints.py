"""Where a registry's images are asked for: its mirrors in order, then the registry itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from runtime.images.hosts import HostEntry, find_directory, read_directory
from runtime.images.reference import DEFAULT_DOMAIN, LEGACY_DOMAIN
from runtime.images.settings import (
    DOCKER_HUB_API,
    Credentials,
    RegistryConfig,
    RegistrySettings,
    Tls,
    host_of,
    is_loopback,
)

_API: Final = "/v2"
_MIRROR_ATTEMPTS: Final = 2
"""Tries of a request at a place after which there is another one to ask."""


@dataclass(frozen=True)
class Endpoint:
    """One place that serves the images of a registry.

    Attributes:
        root: URL of its API, ``https://host[:port]/v2``, without a slash at the end.
        tls: how its certificate is checked, and who we are.
        header: sent to this host with every request; may hold secrets.
        pull: it may be asked for manifests by digest and for blobs.
        resolve: it may be asked what a tag stands for.
        namespace: the registry whose images it serves, told by ``ns=``; empty at that registry.
        trusted: it may see the credentials that are meant for the registry.
        connect_seconds: deadline for a connection; None: that of all pulls.
        attempts: tries of one request; None: that of all pulls.
        https_first: it is set to HTTP but has TLS settings: HTTPS is tried before.
    """

    root: str
    tls: Tls = field(default_factory=Tls)
    header: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    pull: bool = True
    resolve: bool = True
    namespace: str = ""
    trusted: bool = False
    connect_seconds: float | None = None
    attempts: int | None = None
    https_first: bool = False

    @property
    def host(self) -> str:
        """``host[:port]``."""
        return self.root.partition("://")[2].partition("/")[0]


def _plain(settings: RegistrySettings, domain: str) -> bool:
    if settings.plain_http is not None:
        return settings.plain_http
    return is_loopback(host_of(domain))


def _is_same(host: str, domain: str) -> bool:
    hub = (DEFAULT_DOMAIN, LEGACY_DOMAIN, DOCKER_HUB_API)
    return host == domain or (host in hub and domain in hub)


def upstream(config: RegistryConfig, domain: str) -> Endpoint:
    """Return the registry itself, as the table of registries and the defaults have it."""
    settings = config.of(domain)
    host = DOCKER_HUB_API if domain == DEFAULT_DOMAIN else domain
    scheme = "http" if _plain(settings, domain) else "https"
    return Endpoint(f"{scheme}://{host}{_API}", settings.tls, trusted=True)


def endpoints_of(config: RegistryConfig, domain: str) -> list[Endpoint]:
    """Return the places to ask for images of ``domain``, in order; reads files.

    A directory for the registry itself in one of ``config.host_directories`` decides; then the
    table of registries; then a directory ``_default``.

    Raises:
        BadRegistryConfig: a file of the directory cannot be used.
    """
    found = find_directory(config.host_directories, domain)
    if found is None or (found.name == "_default" and domain in config.registries):
        return _limited(_of_table(config, domain))
    hosts = read_directory(found)
    own_directory = found.name != "_default"
    mirrors = [entry for entry in hosts.mirrors if entry.pull or entry.resolve]
    places = [_of_mirror(entry, domain) for entry in mirrors]
    places.append(_of_server(config, hosts.server, domain, own_directory))
    return _limited(places)


def _of_table(config: RegistryConfig, domain: str) -> list[Endpoint]:
    places = []
    for mirror in config.of(domain).mirrors:
        settings = config.of(mirror)
        scheme = "http" if _plain(settings, mirror) else "https"
        host = DOCKER_HUB_API if mirror == DEFAULT_DOMAIN else mirror
        namespace = "" if _is_same(host, domain) else domain
        places.append(Endpoint(f"{scheme}://{host}{_API}", settings.tls, namespace=namespace))
    return [*places, upstream(config, domain)]


def _of_mirror(entry: HostEntry, domain: str) -> Endpoint:
    same = _is_same(entry.host, domain)
    root = entry.root
    if entry.host in (DEFAULT_DOMAIN, LEGACY_DOMAIN):
        # Nothing answers there; containerd's own documentation writes it so.
        root = root.replace(f"://{entry.host}/", f"://{DOCKER_HUB_API}/", 1)
    return Endpoint(
        root=root,
        tls=entry.tls,
        header=entry.header,
        pull=entry.pull,
        resolve=entry.resolve,
        namespace="" if same else domain,
        trusted=same,
        connect_seconds=entry.connect_seconds,
        https_first=entry.https_first,
    )


def _of_server(
    config: RegistryConfig, entry: HostEntry, domain: str, own_directory: bool
) -> Endpoint:
    """Return the last place: the file's ``server``, or without one the registry itself.

    Who writes a ``server`` into the directory of one registry says where that registry is, so it
    may see what is meant for it. One for all registries is no such word.
    """
    if entry.root:
        found = _of_mirror(entry, domain)
        return replace(found, trusted=found.trusted or own_directory)
    return Endpoint(
        root=upstream(config, domain).root,
        tls=entry.tls,
        header=entry.header,
        trusted=True,
        connect_seconds=entry.connect_seconds,
    )


def _limited(places: list[Endpoint]) -> list[Endpoint]:
    """Bound the tries of all places but the last: the next one may have the image at once."""
    return [*(replace(place, attempts=_MIRROR_ATTEMPTS) for place in places[:-1]), places[-1]]


def credentials_for(
    endpoint: Endpoint, domain: str, credentials: Credentials | None
) -> Credentials | None:
    """Return what of a pull's credentials this place may see; None: nothing.

    Mirrors see none, unless the credentials name the mirror as their server.
    """
    if credentials is None:
        return None
    if credentials.server_address and credentials.for_registry(endpoint.host) is not None:
        return credentials
    return credentials.for_registry(domain) if endpoint.trusted else None
