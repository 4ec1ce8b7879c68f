"""``certs.d/<host>/hosts.toml``: a registry's mirrors, as containerd and its tools write them.

The format is that of containerd's docs/hosts.md; without a ``hosts.toml`` the directory may hold
certificates in Docker's way: ``*.crt`` of authorities, ``*.cert`` and ``*.key`` of the client.
Files are read anew for every pull. Where containerd ignores a file that it cannot parse, a pull
fails here: an image from the wrong place is worse than none.
"""

from __future__ import annotations

import logging
import posixpath
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from yarl import URL

from kubeletpy_common.logs import event
from runtime.images.errors import BadRegistryConfig
from runtime.images.settings import Tls

log = logging.getLogger(__name__)

FILE: Final = "hosts.toml"
DEFAULT: Final = "_default"
_MAX_FILE: Final = 1 << 20
_HOST_KEYS: Final = frozenset(
    {"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"}
)
_CAPABILITIES: Final = frozenset({"pull", "resolve", "push", "referrers"})
# RFC 9110: field names are tokens; values must not break out of their line.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]*", re.ASCII)
_ADDRESS: Final = re.compile(r"https?://[0-9A-Za-z._:\[\]-]+(?:/[!-~]*)?", re.ASCII)
# Go's time.ParseDuration, as far as it makes sense for a deadline.
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")
_SECONDS: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip


@dataclass(frozen=True)
class HostEntry:
    """A host of the file, or its ``server`` (with an empty ``root`` when it names none).

    Attributes:
        root: URL of the API, without a slash at the end.
        host: ``host[:port]`` of it.
        pull: may be asked for manifests by digest and for blobs.
        resolve: may be asked what a tag stands for.
        tls: its TLS files, and whether its certificate is checked.
        header: sent with every request to it.
        connect_seconds: deadline for a connection (``dial_timeout``); None: the usual one.
        https_first: set to HTTP, yet with TLS settings: containerd tries HTTPS before.
    """

    root: str = ""
    host: str = ""
    pull: bool = True
    resolve: bool = True
    tls: Tls = field(default_factory=Tls)
    header: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    connect_seconds: float | None = None
    https_first: bool = False


@dataclass(frozen=True)
class Hosts:
    """What a directory says: mirrors in the order of the file, then the server."""

    mirrors: tuple[HostEntry, ...] = ()
    server: HostEntry = HostEntry()


def directory_names(domain: str) -> tuple[str, ...]:
    """Return the names under which a directory for ``host[:port]`` is looked for, in order."""
    host, colon, port = domain.rpartition(":")
    if colon and port.isdigit():
        return (f"{host}_{port}_", domain, DEFAULT)
    return (domain, DEFAULT)


def find_directory(roots: Sequence[Path], domain: str) -> Path | None:
    """Return the directory for ``domain`` in the first of ``roots`` that has one.

    Args:
        roots: such as ``/etc/containerd/certs.d``; those that are missing do not count.
        domain: ``host[:port]`` of a parsed reference, so it holds no slash.

    Raises:
        BadRegistryConfig: a directory cannot be looked into.
    """
    for root in roots:
        for name in directory_names(domain):
            path = root / name
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise BadRegistryConfig(f"look for {path}: {error.strerror}") from error
            return path
    return None


def read_directory(directory: Path) -> Hosts:
    """Read ``hosts.toml``, or the certificates if there is none.

    Raises:
        BadRegistryConfig: a file cannot be read or a key has a value that cannot be used; the
            text names both.
    """
    path = directory / FILE
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise BadRegistryConfig(f"read {path}: {error.strerror}") from error
    if not data:
        return Hosts(server=HostEntry(tls=_certificates(directory)))
    if len(data) > _MAX_FILE:
        raise BadRegistryConfig(f"{path} has more than {_MAX_FILE} bytes")
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadRegistryConfig(f"{path} is not valid TOML: {error}") from error
    return parse(document, path)


def parse(document: dict[str, Any], path: Path) -> Hosts:
    """Check the parsed file; ``path`` is named in errors and is what its paths are relative to.

    Raises:
        BadRegistryConfig: a key has a value that cannot be used.
    """
    top = _Table(document, path, "")
    top.warn_unknown(_HOST_KEYS | {"server", "host"})
    tables = document.get("host", {})
    if not isinstance(tables, dict):
        raise top.refuse("host", 'is not a table such as [host."https://mirror.example"]')
    mirrors = []
    for name, value in tables.items():
        place = f'host."{name}".'
        if not isinstance(value, dict):
            raise top.refuse(f'host."{name}"', "is not a table")
        if "host" in value:
            raise top.refuse(f"{place}host", "is a host within a host, which has no meaning")
        table = _Table(value, path, place)
        table.warn_unknown(_HOST_KEYS)
        mirrors.append(_entry(table, name, f'host."{name}"'))
    server = top.text("server")
    return Hosts(tuple(mirrors), _entry(top, server, "server"))


class _Table:
    """Typed access to a table; errors name file and key."""

    def __init__(self, value: dict[str, Any], path: Path, place: str) -> None:
        self._value = value
        self._path = path
        self._place = place

    def refuse(self, key: str, why: str) -> BadRegistryConfig:
        return BadRegistryConfig(f"{self._path}: {key} {why}")

    def wrong(self, key: str, why: str) -> BadRegistryConfig:
        return self.refuse(f"{self._place}{key}", why)

    def warn_unknown(self, known: Iterable[str]) -> None:
        # containerd ignores them, and later versions of it may know more than we do.
        for key in sorted(set(self._value) - set(known)):
            event(log, logging.WARNING, "unknown key in registry configuration ignored",
                  file=str(self._path), key=f"{self._place}{key}")  # fmt: skip

    def text(self, key: str) -> str:
        value = self._value.get(key, "")
        if not isinstance(value, str):
            raise self.wrong(key, f"is {value!r}, not a string")
        return value

    def flag(self, key: str) -> bool:
        value = self._value.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {value!r}, not true or false")
        return value

    def has(self, key: str) -> bool:
        return key in self._value

    def file(self, key: str, text: Any) -> Path:
        if not isinstance(text, str) or not text or "\0" in text:
            raise self.wrong(key, f"holds {text!r}, not a path")
        return self._path.parent / text

    def files(self, key: str) -> tuple[Path, ...]:
        value = self._value.get(key, [])
        if not isinstance(value, str | list):
            raise self.wrong(key, f"is {value!r}, not a path or a list of paths")
        return tuple(
            self.file(key, item) for item in ([value] if isinstance(value, str) else value)
        )

    def pairs(self, key: str) -> tuple[tuple[Path, Path | None], ...]:
        value = self._value.get(key, [])
        if not isinstance(value, str | list):
            raise self.wrong(key, f"is {value!r}, not a path, a list of paths or of pairs")
        return tuple(
            self._pair(key, item) for item in ([value] if isinstance(value, str) else value)
        )

    def _pair(self, key: str, item: Any) -> tuple[Path, Path | None]:
        if not isinstance(item, list):
            return self.file(key, item), None
        if len(item) != 2:
            raise self.wrong(key, f'holds {item!r}, not a pair ["certificate", "key"]')
        return self.file(key, item[0]), self.file(key, item[1]) if item[1] != "" else None

    def capabilities(self) -> frozenset[str]:
        value = self._value.get("capabilities", [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong("capabilities", f'is {value!r}, not a list such as ["pull"]')
        found = frozenset(item.lower() for item in value)
        if unknown := sorted(found - _CAPABILITIES):
            raise self.wrong(
                "capabilities",
                f"holds {unknown[0]!r}; known are {', '.join(sorted(_CAPABILITIES))}",
            )
        # An empty list is as good as none: so containerd reads it.
        return found or _CAPABILITIES

    def header(self) -> tuple[tuple[str, str], ...]:
        value = self._value.get("header", {})
        if not isinstance(value, dict):
            raise self.wrong("header", f"is {value!r}, not a table")
        found: list[tuple[str, str]] = []
        for name, given in value.items():
            if _HEADER_NAME.fullmatch(name) is None:
                raise self.wrong(f"header.{name!r}", "is not the name of a header")
            for text in given if isinstance(given, list) else [given]:
                # The value may be a secret: it is not shown.
                if not isinstance(text, str) or _HEADER_VALUE.fullmatch(text) is None:
                    raise self.wrong(f"header.{name}", "is not one line of ASCII text")
                found.append((name, text))
        return tuple(found)

    def duration(self, key: str) -> float | None:
        text = self.text(key)
        if not text:
            return None
        if _DURATION.fullmatch(text) is None:
            raise self.wrong(key, f'is {text!r}, not a duration such as "30s"')
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text))
        if seconds <= 0:
            raise self.wrong(key, f"is {text!r}, which leaves no time at all")
        return seconds


def _entry(table: _Table, address: str, key: str) -> HostEntry:
    capabilities = table.capabilities()
    tls = Tls(
        ca_files=table.files("ca"),
        client_pairs=table.pairs("client"),
        skip_verify=table.flag("skip_verify"),
    )
    override = table.flag("override_path")
    root, host, https_first = "", "", False
    if address:
        url = _address(table, address, key)
        root = _root(url, override)
        host = root.partition("://")[2].partition("/")[0]
        has_tls = any(table.has(name) for name in ("ca", "client", "skip_verify"))
        https_first = url.scheme == "http" and has_tls and url.explicit_port != 80
    return HostEntry(
        root=root,
        host=host,
        pull="pull" in capabilities,
        resolve="resolve" in capabilities,
        tls=tls,
        header=table.header(),
        connect_seconds=table.duration("dial_timeout"),
        https_first=https_first,
    )


def _address(table: _Table, address: str, key: str) -> URL:
    text = address if "://" in address else f"https://{address}"
    try:
        url = URL(text, encoded=True)
        if url.scheme not in ("http", "https") or not url.host or url.port is None:
            raise ValueError("it is not an http or https URL with a host")
        if url.user is not None or url.password is not None:
            raise ValueError("credentials do not belong into it")
        if url.query_string or url.fragment or _ADDRESS.fullmatch(text) is None:
            raise ValueError("it may hold a host, a port and a path only")
    except ValueError as error:
        raise table.refuse(key, f"is not the address of a registry: {error}") from None
    return url


def _root(url: URL, override: bool) -> str:
    """Return the API's root; ``/v2`` is added as the distribution API has it, unless overridden."""
    path = url.raw_path if url.raw_path != "/" else ""
    if path:
        path = posixpath.normpath(path)
    if not override and not path.endswith("/v2"):
        path += "/v2"
    return f"{url.scheme}://{url.raw_authority}{path.rstrip('/')}"


def _certificates(directory: Path) -> Tls:
    """Return the certificates that lie in the directory (Docker's ``certs.d``)."""
    try:
        names = sorted(entry.name for entry in directory.iterdir() if not entry.is_dir())
    except NotADirectoryError:
        raise BadRegistryConfig(f"{directory} is not a directory; it must hold {FILE}") from None
    except OSError as error:
        raise BadRegistryConfig(f"read {directory}: {error.strerror}") from error
    pairs: list[tuple[Path, Path | None]] = []
    for name in names:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            pairs.append((directory / name, directory / key if key in names else None))
    authorities = tuple(directory / name for name in names if name.endswith(".crt"))
    return Tls(ca_files=authorities, client_pairs=tuple(pairs))
