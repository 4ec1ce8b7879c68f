"""A container's root file system, mounted where an external runtime looks for it."""

from __future__ import annotations

import os

from runtime.oci.root_steps import MountRoot
from runtime.oci.steps import Context

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runtime.shim.messages import Rootfs


def mount_root(
    rootfs: Rootfs, roots: str, container_id: str, linux: Mapping[str, Any], context: Context
) -> None:
    """Mount the overlay on ``<roots>/<container_id>``, in this process's own mount namespace.

    ``roots`` lies on a private mount of the pod's own, so that nothing of it propagates, while all
    other mounts keep their peers: volumes with propagation depend on them.

    Raises:
        OSError: the kernel refused.
    """
    target = f"{roots}/{container_id}"
    os.makedirs(target, mode=0o700, exist_ok=True)
    MountRoot(rootfs, target).execute(context)
