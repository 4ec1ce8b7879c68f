"""Becoming part of a pod's user namespace, last of all.

A child builds its file system with the capabilities of the host's root, which id-mapped mounts,
overlayfs' trusted attributes and device nodes ask for, but under the ids of the container's root,
so that whatever it makes belongs to that one. Only then does it enter the user namespace, and take
a copy of the mounts along: mount_namespaces(7) locks the mounts of a copy that a less privileged
namespace owns, so that root inside can neither uncover what is masked nor make it writable.
"""

from __future__ import annotations

import errno
import os

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux import namespaces as ns
from kubeletpy_common.linux import processes
from kubeletpy_common.linux.libc import AT_EMPTY_PATH
from runtime.oci.mappings import host_owner

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def open_user_namespace(config: dict[str, Any]) -> int:
    """Open the user namespace of an OCI configuration; -1 if it is the host's.

    Raises:
        OSError: it is gone.
    """
    for namespace in config["linux"].get("namespaces", []):
        if namespace["type"] == "user":
            return os.open(namespace["path"], os.O_RDONLY | os.O_CLOEXEC)
    return -1


def become_owner(config: dict[str, Any]) -> None:
    """Take on the ids of the container's root, with the capabilities of the host's.

    Raises:
        OSError: the kernel refused.
    """
    uid, gid = host_owner(config, 0, 0)
    processes.keep_capabilities_over_setuid()
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _stay_opaque()


def enter_user_namespace(descriptor: int) -> None:
    """Enter it, with a mount namespace that it owns.

    Raises:
        OSError: the kernel refused.
    """
    ns.setns(descriptor, ns.CLONE_NEWUSER)
    ns.unshare(ns.CLONE_NEWNS)
    _stay_opaque()


def become_root_inside() -> None:
    """Become root of the user namespace just entered; the host's root has no id in it.

    Raises:
        OSError: the kernel refused.
    """
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _stay_opaque()


def _stay_opaque() -> None:
    """Keep others of the pod, who have the same user id now, from tracing this process.

    Changes of ids set what the sysctl fs.suid_dumpable says (proc_sys_fs(5)).
    """
    processes.set_dumpable(False)


def map_ids(tree: int, user_namespace: int, what: str) -> None:
    """Have the detached mount ``tree`` show its files under the ids of a user namespace.

    Raises:
        OSError: the kernel or the file system cannot, or the mount has a mapping already.
    """
    try:
        m.mount_setattr(
            tree,
            "",
            AT_EMPTY_PATH,
            attr_set=m.MOUNT_ATTR_IDMAP,
            userns_fd=user_namespace,
        )
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        raise OSError(
            error.errno,
            f"{what}: its file system cannot be mounted with mapped ids ({error.strerror}); ext4, "
            "xfs and btrfs can, tmpfs from Linux 6.3 on; move it there, or use the host's user "
            "namespace",
        ) from error
