"""Image references: ``[domain/]path[:tag][@digest]``, normalised as Docker does.

Grammar: github.com/distribution/reference, file reference.go (the one that Docker, containerd and
the OCI distribution specification share). ``busybox`` means ``docker.io/library/busybox:latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from runtime.images.errors import InvalidReference

DEFAULT_DOMAIN: Final = "docker.io"
LEGACY_DOMAIN: Final = "index.docker.io"
OFFICIAL: Final = "library"
DEFAULT_TAG: Final = "latest"
MAX_NAME: Final = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = re.compile(rf"{_HOST}(?::[0-9]{{1,5}})?", re.ASCII)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})", re.ASCII)
_ANY_DIGEST = re.compile(
    r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII
)
_BARE_ID = re.compile(r"[a-f0-9]{64}", re.ASCII)


def is_digest(text: str) -> bool:
    """Tell whether ``text`` is a sha256 or sha512 digest in its canonical form."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True)
class Reference:
    """A normalised reference: domain and path, and a tag or a digest or both."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """``domain/path``, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def tagged(self) -> str | None:
        """``domain/path:tag``; None when the reference has a digest, which makes the tag moot."""
        if self.tag is None or self.digest is not None:
            return None
        return f"{self.name}:{self.tag}"

    @property
    def api_reference(self) -> str:
        """What stands behind ``/manifests/``: the digest if there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_digest(self, digest: str) -> str:
        """``domain/path@digest``."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"


def _refuse(text: str, why: str) -> InvalidReference:
    shown = text if len(text) <= 300 else text[:300] + "..."
    return InvalidReference(
        f"image reference {shown!r} {why}; the form is [registry[:port]/]name[:tag][@digest]"
    )


def _split_digest(text: str, rest: str) -> tuple[str, str | None]:
    name, at, digest = rest.partition("@")
    if not at:
        return rest, None
    if is_digest(digest):
        return name, digest
    if _ANY_DIGEST.fullmatch(digest):
        raise _refuse(text, f"has the digest {digest!r}, of an algorithm or form not supported")
    raise _refuse(text, f"has the digest {digest!r}, which is not sha256: and 64 hex digits")


def _split_tag(text: str, rest: str) -> tuple[str, str | None]:
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    # A single component such as "localhost:5000" is a name and a tag, as Docker reads it.
    if colon < 0:
        return rest, None
    tag = rest[colon + 1 :]
    if _TAG.fullmatch(tag) is None:
        raise _refuse(text, f"has the tag {tag!r}, which is not 1 to 128 of [A-Za-z0-9_.-]")
    return rest[:colon], tag


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, remainder = name.partition("/")
    is_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first.lower() != first
    )
    domain, path = (first, remainder) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{OFFICIAL}/{path}"
    return domain, path


def parse(text: str) -> Reference:
    """Parse and normalise an image reference.

    A reference with neither tag nor digest gets the tag ``latest``; one with both keeps both, and
    the digest decides.

    Raises:
        InvalidReference: ``text`` is not a reference, or a bare 64-digit id, which as a name
            would be mistaken for one.
    """
    if not text:
        raise _refuse(text, "is empty")
    if _BARE_ID.fullmatch(text) or is_digest(text):
        raise _refuse(text, "is an image id, not a name")
    rest, digest = _split_digest(text, text)
    rest, tag = _split_tag(text, rest)
    domain, path = _split_domain(rest)
    if _DOMAIN.fullmatch(domain) is None or not _valid_port(domain):
        raise _refuse(text, f"has the registry {domain!r}, which is not a host and port")
    if _PATH.fullmatch(path) is None:
        reason = "must be lowercase" if _PATH.fullmatch(path.lower()) else "is malformed"
        raise _refuse(text, f"has the name {path!r}, which {reason}")
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _refuse(text, f"has a name of more than {MAX_NAME} characters")
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def _valid_port(domain: str) -> bool:
    host, colon, port = domain.rpartition(":")
    if not colon or not host or domain.endswith("]"):
        return True
    return 0 < int(port) <= 65535


def without_tag(reference: Reference) -> Reference:
    """Return the reference by digest alone; one without a digest is returned as it is."""
    return replace(reference, tag=None) if reference.digest is not None else reference
