"""Settings of pulls: registries, limits, deadlines; and the credentials of one pull."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runtime.images.errors import Unauthorized
from runtime.images.platforms import Platform, host_platform
from runtime.images.reference import DEFAULT_DOMAIN, LEGACY_DOMAIN
from runtime.unpacker.limits import UnpackLimits as UnpackLimits

DOCKER_HUB_API: Final = "registry-1.docker.io"
_DOCKER_HUB_NAMES: Final = frozenset({DEFAULT_DOMAIN, LEGACY_DOMAIN, DOCKER_HUB_API})


@dataclass(frozen=True)
class Tls:
    """How a host's certificate is checked, and what this node shows of its own.

    Attributes:
        ca_files: PEM files of authorities trusted for it beside the system's.
        client_pairs: PEM files of client certificates and of their keys; None as the key: it is in
            the certificate's file. Of several with keys of one kind the first is shown.
        skip_verify: its certificate is not checked at all.
    """

    ca_files: tuple[Path, ...] = ()
    client_pairs: tuple[tuple[Path, Path | None], ...] = ()
    skip_verify: bool = False


@dataclass(frozen=True)
class RegistrySettings:
    """How to reach one registry.

    Attributes:
        plain_http: HTTP instead of HTTPS; None: HTTP for loopback hosts only.
        ca_file: PEM file of certificate authorities trusted for it beside the system's.
        client_cert: PEM file of the client certificate, for mutual TLS.
        client_key: PEM file of its key; None when the certificate's file holds both.
        mirrors: ``host[:port]`` of registries asked first, in order, without credentials.
    """

    plain_http: bool | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def tls(self) -> Tls:
        """Its files as :class:`Tls`."""
        return Tls(
            ca_files=(self.ca_file,) if self.ca_file is not None else (),
            client_pairs=((self.client_cert, self.client_key),) if self.client_cert else (),
        )


@dataclass(frozen=True)
class RegistryConfig:
    """Settings of all pulls.

    Attributes:
        registries: by ``host[:port]`` as it stands in references (``docker.io`` for Docker Hub).
        host_directories: where directories with a ``hosts.toml`` per registry are looked for
            (containerd's ``certs.d``), before ``registries``.
        pinned: names of images that are pinned; ``*`` stands for any characters.
        platform: for which images are chosen.
        parallel_downloads: blobs fetched at a time, for all pulls together.
        attempts: tries of one request before it fails; for blobs, tries without progress.
        backoff_seconds: wait before the second try; doubles each time.
        max_backoff_seconds: its bound, also for a registry's Retry-After.
        patience_seconds: after a first failure, how much later the last try may begin; for blobs,
            while nothing more arrives.
        connect_seconds: deadline for a connection, TLS included.
        stall_seconds: deadline for an answer, and for each next ``stall_bytes`` of a body.
        stall_bytes: what counts as progress.
        progress_log_seconds: between two lines of the log that say how far a pull is.
        leftover_seconds: that parts of a failed pull are kept for the next try.
        limits: bounds on layers.
    """

    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    host_directories: tuple[Path, ...] = ()
    pinned: tuple[str, ...] = ()
    platform: Platform = field(default_factory=host_platform)
    parallel_downloads: int = 3
    attempts: int = 5
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 15.0
    patience_seconds: float = 1.0
    connect_seconds: float = 20.0
    stall_seconds: float = 60.0
    stall_bytes: int = 16 * 1024
    progress_log_seconds: float = 10.0
    leftover_seconds: float = 600.0
    limits: UnpackLimits = field(default_factory=UnpackLimits)

    def of(self, domain: str) -> RegistrySettings:
        """Return the settings of a registry; the defaults if none are given."""
        return self.registries.get(domain, RegistrySettings())


def host_of(domain: str) -> str:
    """Return the host of ``host[:port]``, without the brackets of an IPv6 address."""
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is ``localhost`` or a literal loopback address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Credentials:
    """What a pull may present to the registry of its reference, and to no one else.

    The fields are those of CRI's AuthConfig.

    Attributes:
        username: for basic authentication.
        password: for basic authentication.
        auth: base64 of ``username:password``, instead of the two.
        server_address: if set, the only registry that may see them.
        identity_token: an OAuth 2 refresh token, exchanged at the registry's token service.
        registry_token: a bearer token, sent to the registry as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)
    server_address: str = ""
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> tuple[str, str] | None:
        """Return user name and password, or None if there are none.

        Raises:
            Unauthorized: ``auth`` is not what it should be.
        """
        if self.username or self.password:
            return self.username, self.password
        if not self.auth:
            return None
        try:
            text = base64.b64decode(self.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        username, colon, password = text.partition(":")
        if not colon:
            raise Unauthorized(
                "the pull secret's 'auth' is not base64 of 'username:password'; mend the secret"
            )
        return username, password.rstrip("\0")

    def for_registry(self, domain: str) -> Credentials | None:
        """Return these credentials if they are meant for ``domain``, else None."""
        if not self.server_address:
            return self
        address = self.server_address
        host = address.partition("://")[2] or address
        host = host.partition("/")[0]
        same_hub = host in _DOCKER_HUB_NAMES and domain in _DOCKER_HUB_NAMES
        return self if host == domain or same_hub else None
