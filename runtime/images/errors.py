"""What can go wrong with an image; each failure has a class and a stable reason code."""

from __future__ import annotations

from typing import ClassVar


class ImageError(Exception):
    """An operation on an image failed; the text says what was tried, on what, and why.

    ``reason`` is a stable code for programs; ``transient`` tells whether the same call may succeed
    later without any change to the image.
    """

    reason: ClassVar[str] = "image-error"
    transient: ClassVar[bool] = False


class InvalidReference(ImageError):
    """The text is no image reference."""

    reason = "invalid-reference"


class ImageNotFound(ImageError):
    """The registry, or the store, has no such image or blob."""

    reason = "not-found"


class Unauthorized(ImageError):
    """The registry refused: credentials are missing, wrong, or not enough."""

    reason = "unauthorized"


class RegistryUnreachable(ImageError):
    """The registry could not be reached, or failed on its side, in spite of retries."""

    reason = "registry-unreachable"
    transient = True


class RegistryRefused(ImageError):
    """The registry answered in a way that must not be followed, such as an unsafe redirect."""

    reason = "registry-refused"


class BadRegistryConfig(ImageError):
    """The configuration of a registry on this node cannot be used."""

    reason = "bad-registry-config"


class DigestMismatch(ImageError):
    """What arrived is not what its digest or size promised."""

    reason = "digest-mismatch"


class TruncatedBlob(ImageError):
    """A blob ended before its size was reached, in spite of retries."""

    reason = "truncated-blob"
    transient = True


class UnsupportedMedia(ImageError):
    """The manifest, config or layer is of a media type that is not supported."""

    reason = "unsupported-media-type"


class MalformedImage(ImageError):
    """A manifest, config or layer is broken or exceeds a bound."""

    reason = "malformed-image"


class NoMatchingPlatform(ImageError):
    """The image exists, but not for this machine's operating system and processor."""

    reason = "no-matching-platform"


class UnsafeLayer(ImageError):
    """A layer holds an entry that reaches, or would reach, out of its root or its bounds."""

    reason = "unsafe-layer"


class NoSpace(ImageError):
    """The disk of the image store is full."""

    reason = "no-space"
    transient = True


class ImageInUse(ImageError):
    """The image cannot be removed: a container uses it."""

    reason = "in-use"


class FileTooLarge(ImageError):
    """A file of an image is larger than what will be read of it."""

    reason = "file-too-large"


class StoreError(ImageError):
    """The image store on disk could not be read or written."""

    reason = "store-error"


def by_name(name: str) -> type[ImageError]:
    """Return the class of this name, for errors that come from another process.

    An unknown name is a :class:`StoreError`: it is not for the image to say what went wrong.
    """
    classes = {each.__name__: each for each in ImageError.__subclasses__()}
    return classes.get(name, StoreError)
