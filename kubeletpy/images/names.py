"""Names of images, as registries and pods write them (pure).

https://github.com/distribution/reference : ``[host[:port]/]path[:tag][@digest]``; a name without a
host means Docker Hub, one without tag and digest the tag ``latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_HOST, DEFAULT_PATH, DEFAULT_TAG = "docker.io", "library", "latest"
_LEGACY_HOST = "index.docker.io"
_LONGEST_PATH = 255
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_ID = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class ImageName:
    """A name in its parts; ``repository`` has its host, ``tag`` is "" only beside a digest."""

    repository: str
    tag: str
    digest: str


def parse(image: str) -> ImageName:
    """Take a name apart.

    Raises:
        ValueError: it is none.
    """

    def fault(why: str) -> ValueError:
        return ValueError(f'couldn\'t parse image name "{image}": {why}')

    if _ID.fullmatch(image):
        raise fault("cannot specify 64-byte hexadecimal strings")
    rest, at, digest = image.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise fault("invalid reference format")
    tag = ""
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    if colon >= 0:
        rest, tag = rest[:colon], rest[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise fault("invalid reference format")
    host, path = _split(rest)
    if path != path.lower():
        raise fault(f"repository name ({path}) must be lowercase")
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path):
        raise fault("invalid reference format")
    if len(path) > _LONGEST_PATH:
        raise fault(f"repository name must not be more than {_LONGEST_PATH} characters")
    if not tag and not digest:
        tag = DEFAULT_TAG
    return ImageName(f"{host}/{path}", tag, digest)


def _split(name: str) -> tuple[str, str]:
    """Return host and path; the first part is a host if it could not be a user's name."""
    first, slash, path = name.partition("/")
    if not slash or not (
        any(one in first for one in ".:") or first == "localhost" or first != first.lower()
    ):
        host, path = DEFAULT_HOST, name
    else:
        host = DEFAULT_HOST if first == _LEGACY_HOST else first
    if host == DEFAULT_HOST and "/" not in path:
        path = f"{DEFAULT_PATH}/{path}"
    return host, path


def with_tag(image: str) -> str:
    """Return the name as a runtime is asked for it: with ``:latest`` if nothing else is said.

    Raises:
        ValueError: it is no name.
    """
    name = parse(image)
    if name.digest or image.endswith(f":{name.tag}"):
        return image
    return f"{image}:{name.tag}"


def without_tag(image: str) -> str:
    """Return the name as written, without its tag and digest; one that is none as it is."""
    rest = image.partition("@")[0]
    colon = rest.find(":", rest.rfind("/") + 1)
    return rest if colon < 0 else rest[:colon]
