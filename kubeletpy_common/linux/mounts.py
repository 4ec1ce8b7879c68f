"""Mount calls: the classic mount(2) and the file-descriptor based ones of Linux 5.2 and later."""

from __future__ import annotations

import ctypes

from kubeletpy_common.linux.libc import AT_EMPTY_PATH, Path, check, encode, libc, syscall

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# mount(2) flags
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_NOATIME: Final = 1024
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_STRICTATIME: Final = 1 << 24

# umount2(2) flags
MNT_FORCE: Final = 1
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

# open_tree(2), move_mount(2), fsconfig(2), fsmount(2)
OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6

# mount_setattr(2)
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR__ATIME: Final = 0x70
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_IDMAP: Final = 0x100000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x200000


class _MountAttributes(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount(
    source: Path | None, target: Path, fstype: str | None, flags: int = 0, data: str = ""
) -> None:
    """Call mount(2).

    ``MS_BIND`` silently drops every other flag but ``MS_REC``: use :func:`mount_setattr` for
    read-only or nosuid bind mounts.

    Raises:
        OSError: the kernel refused.
    """
    check(
        libc.mount(
            encode(source),
            encode(target),
            encode(fstype),
            ctypes.c_ulong(flags),
            encode(data) if data else None,
        ),
        "mount",
        source or fstype or "none",
        target,
        fstype or "",
        f"flags {flags:#x}",
        data,
    )


def umount(target: Path, flags: int = 0) -> None:
    """Call umount2(2).

    Raises:
        OSError: ``EINVAL`` if nothing is mounted there, or what else the kernel says.
    """
    check(libc.umount2(encode(target), flags), "umount2", target, f"flags {flags:#x}")


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Call pivot_root(2); ``(".", ".")`` stacks the old root over the new one, to be detached.

    Raises:
        OSError: the kernel refused.
    """
    syscall("pivot_root", encode(new_root), encode(put_old), operands=(new_root, put_old))


def open_tree(dirfd: int, path: Path, flags: int) -> int:
    """Call open_tree(2): a descriptor of the mount at ``path``, or a detached clone of it.

    Raises:
        OSError: the kernel refused.
    """
    return syscall(
        "open_tree", dirfd, encode(path), flags | OPEN_TREE_CLOEXEC, operands=(dirfd, path)
    )


def move_mount(from_fd: int, from_path: Path, to_fd: int, to_path: Path, flags: int) -> None:
    """Call move_mount(2).

    Raises:
        OSError: the kernel refused.
    """
    syscall(
        "move_mount",
        from_fd,
        encode(from_path),
        to_fd,
        encode(to_path),
        flags,
        operands=(from_fd, from_path, to_fd, to_path),
    )


def attach(mount_fd: int, target_fd: int) -> None:
    """Attach the detached mount ``mount_fd`` over what ``target_fd`` (``O_PATH``) refers to.

    No path is looked up, so nobody can swap the target in between.

    Raises:
        OSError: the kernel refused.
    """
    move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(
    dirfd: int,
    path: Path,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Call mount_setattr(2), with ``AT_RECURSIVE`` in ``flags`` on the whole tree of mounts.

    Raises:
        OSError: the kernel refused.
    """
    attributes = _MountAttributes(attr_set, attr_clr, propagation, userns_fd)
    syscall(
        "mount_setattr",
        dirfd,
        encode(path),
        flags,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
        operands=(dirfd, path, f"set {attr_set:#x}", f"clear {attr_clr:#x}"),
    )


def set_mount_attributes(
    mount_fd: int, *, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0, flags: int = 0
) -> None:
    """Call :func:`mount_setattr` on the mount that ``mount_fd`` refers to."""
    mount_setattr(
        mount_fd,
        "",
        AT_EMPTY_PATH | flags,
        attr_set=attr_set,
        attr_clr=attr_clr,
        propagation=propagation,
    )


def fsopen(fstype: str) -> int:
    """Call fsopen(2): a configuration descriptor for a new file system of ``fstype``.

    Raises:
        OSError: the kernel does not know the type.
    """
    return syscall("fsopen", encode(fstype), _FSOPEN_CLOEXEC, operands=(fstype,))


def fsconfig_set_string(fd: int, key: str, value: str) -> None:
    """Set one string parameter (at most 255 bytes) of a file system being configured.

    Raises:
        OSError: the file system refused it.
    """
    syscall(
        "fsconfig",
        fd,
        _FSCONFIG_SET_STRING,
        encode(key),
        encode(value),
        0,
        operands=(fd, key, value),
    )


def fsconfig_set_flag(fd: int, key: str) -> None:
    """Set one flag parameter of a file system being configured.

    Raises:
        OSError: the file system refused it.
    """
    syscall("fsconfig", fd, _FSCONFIG_SET_FLAG, encode(key), None, 0, operands=(fd, key))


def fsconfig_create(fd: int) -> None:
    """Make the file system that was configured.

    Raises:
        OSError: the kernel refused.
    """
    syscall("fsconfig", fd, _FSCONFIG_CMD_CREATE, None, None, 0, operands=(fd, "create"))


def fsmount(fd: int, attributes: int = 0) -> int:
    """Call fsmount(2): a detached mount of the file system, to be attached by :func:`attach`.

    Raises:
        OSError: the kernel refused.
    """
    return syscall("fsmount", fd, _FSMOUNT_CLOEXEC, attributes, operands=(fd,))
