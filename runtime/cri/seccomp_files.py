"""The files of Localhost seccomp profiles."""

from __future__ import annotations

import os
import stat

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.request import TranslationError
from runtime.oci.seccomp import PROFILE_LIMIT, Profile, parse_profile, requested_profile


def read_localhost_profile(security: cri.LinuxContainerSecurityContext) -> Profile | None:
    """Return the profile of a container that asks for a Localhost one, None if it does not.

    Raises:
        TranslationError: the file is missing, empty, too large, no regular file or no profile.
    """
    kind, path = requested_profile(security)
    if kind != cri.SecurityProfile.Localhost:
        return None
    try:
        # Not to wait for the writer of a fifo, or wind back a tape.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TranslationError(f"seccomp profile {path!r} is no regular file")
            data = stream.read(PROFILE_LIMIT + 1)
    except OSError as error:
        raise TranslationError(
            f"seccomp profile {path!r} cannot be read: {error.strerror}; put it there, or use "
            "RuntimeDefault"
        ) from error
    return parse_profile(data, path)
