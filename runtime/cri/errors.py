"""The one table from exceptions to gRPC status codes."""

from __future__ import annotations

import errno
from typing import Final

from grpc import StatusCode

from kubeletpy_common.cgroups import CgroupError
from runtime.cri.sysctls import SysctlError
from runtime.handlers.table import MissingProgramError, UnknownHandlerError
from runtime.images import errors as images
from runtime.network.errors import NetworkError, PortConflict, SubnetExhausted
from runtime.oci.request import TranslationError
from runtime.oci.users import UserError
from runtime.shim.client import ShimError
from runtime.spawner.client import SpawnError
from runtime.state.records import StateError
from runtime.state.store import AmbiguousIdError, NameTakenError, NotFoundError
from runtime.streaming.tokens import TooManyTokensError

_MAX_DETAILS: Final = 4000  # gRPC's trailers as a whole may have 8 KiB


class InvalidRequestError(ValueError):
    """A field of the request is missing, malformed or not supported."""


class ImageVolumeError(InvalidRequestError):
    """An image cannot be mounted into a container as asked for.

    The text begins with the word that clients know such errors by (cri-api ``errors.go``).
    """

    def __str__(self) -> str:
        return f"ImageVolumeMountFailed: {super().__str__()}"


class MissingVolumeImageError(ImageVolumeError):
    """The image that a container wants to mount is not here."""


class NotReadyError(Exception):
    """The pod or container is not in the state that the call needs."""


class StartError(Exception):
    """A container's process could not be started."""


class ExecTimeoutError(Exception):
    """A command took longer than its caller allowed, and was killed."""


class CleanupError(Exception):
    """Something could not be removed; the text lists what. The call can be repeated."""


class SlowClientError(Exception):
    """A client did not read its events fast enough."""


class AbandonedError(Exception):
    """A call was cancelled, and not by its caller: a defect."""


class StoppingError(Exception):
    """The daemon is being stopped."""


# The first class that fits counts: subclasses stand before their bases.
_TABLE: Final[tuple[tuple[type[BaseException], StatusCode], ...]] = (
    (NotFoundError, StatusCode.NOT_FOUND),
    (AmbiguousIdError, StatusCode.INVALID_ARGUMENT),
    (NameTakenError, StatusCode.ALREADY_EXISTS),
    (MissingVolumeImageError, StatusCode.NOT_FOUND),
    (InvalidRequestError, StatusCode.INVALID_ARGUMENT),
    (TranslationError, StatusCode.INVALID_ARGUMENT),
    (UserError, StatusCode.INVALID_ARGUMENT),
    (SysctlError, StatusCode.INVALID_ARGUMENT),
    (NotReadyError, StatusCode.FAILED_PRECONDITION),
    (UnknownHandlerError, StatusCode.INVALID_ARGUMENT),
    (MissingProgramError, StatusCode.FAILED_PRECONDITION),
    (ExecTimeoutError, StatusCode.DEADLINE_EXCEEDED),
    (SlowClientError, StatusCode.RESOURCE_EXHAUSTED),
    (TooManyTokensError, StatusCode.RESOURCE_EXHAUSTED),
    (StoppingError, StatusCode.UNAVAILABLE),
    (images.InvalidReference, StatusCode.INVALID_ARGUMENT),
    (images.ImageNotFound, StatusCode.NOT_FOUND),
    (images.Unauthorized, StatusCode.UNAUTHENTICATED),
    (images.RegistryUnreachable, StatusCode.UNAVAILABLE),
    (images.BadRegistryConfig, StatusCode.FAILED_PRECONDITION),
    (images.RegistryRefused, StatusCode.FAILED_PRECONDITION),
    (images.DigestMismatch, StatusCode.DATA_LOSS),
    (images.TruncatedBlob, StatusCode.DATA_LOSS),
    (images.UnsupportedMedia, StatusCode.FAILED_PRECONDITION),
    (images.MalformedImage, StatusCode.FAILED_PRECONDITION),
    (images.NoMatchingPlatform, StatusCode.FAILED_PRECONDITION),
    (images.UnsafeLayer, StatusCode.FAILED_PRECONDITION),
    (images.NoSpace, StatusCode.RESOURCE_EXHAUSTED),
    (images.ImageInUse, StatusCode.FAILED_PRECONDITION),
    (images.ImageError, StatusCode.UNKNOWN),
    (SubnetExhausted, StatusCode.RESOURCE_EXHAUSTED),
    (PortConflict, StatusCode.FAILED_PRECONDITION),
    (NetworkError, StatusCode.INTERNAL),
    (StartError, StatusCode.UNKNOWN),
    (ShimError, StatusCode.UNKNOWN),
    (SpawnError, StatusCode.INTERNAL),
    (CleanupError, StatusCode.INTERNAL),
    (StateError, StatusCode.INTERNAL),
    (TimeoutError, StatusCode.DEADLINE_EXCEEDED),
    (OSError, StatusCode.INTERNAL),
)


def status_of(error: BaseException) -> StatusCode:
    """Return the gRPC status code of an exception; INTERNAL for one that nobody foresaw."""
    if isinstance(error, CgroupError) and error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return StatusCode.INVALID_ARGUMENT
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StatusCode.RESOURCE_EXHAUSTED
    for kind, code in _TABLE:
        if isinstance(error, kind):
            return code
    return StatusCode.INTERNAL


def details_of(error: BaseException) -> str:
    """Return the text for the client.

    An image error begins with its reason code, so that a client can tell a wrong digest from a
    missing image without parsing prose.
    """
    text = str(error) or type(error).__name__
    if isinstance(error, images.ImageError):
        text = f"{error.reason}: {text}"
    return text if len(text) <= _MAX_DETAILS else text[: _MAX_DETAILS - 1] + "…"


def is_expected(error: BaseException) -> bool:
    """Tell whether an exception is one of the table: anything else is a bug, logged in full."""
    return any(isinstance(error, kind) for kind, _ in _TABLE)
