"""Copying a directory of an image, whose contents nobody vouches for, into another directory.

Both trees are walked by descriptors and without following any link; nothing else writes to either
of them meanwhile.
"""

from __future__ import annotations

import os
import stat

from kubeletpy_common.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_CHUNK = 8 << 20
# What containers may see: the kernel's and overlayfs' own attributes are not copied.
_XATTRS = ("user.", "security.capability", "system.posix_acl_")


def copy_tree(source: int, target: int) -> None:
    """Copy the directory ``source`` with all that is in it onto the empty directory ``target``.

    Owners, modes, times, links, devices and extended attributes are kept; sockets are left out,
    since nobody listens on a copy; each name of a hard link becomes a file of its own.

    Args:
        source: descriptor of a directory.
        target: likewise.

    Raises:
        OSError: a file cannot be read or written, the disk is full, or paths are too long.
    """
    directories = ["."]
    # Times and modes of directories last: entries made in them change the one and need the other.
    for path in directories:
        from_fd = openat2(source, path, _DIRECTORY, 0, _PLAIN)
        to_fd = openat2(target, path, _DIRECTORY, 0, _PLAIN)
        try:
            for name in sorted(os.listdir(from_fd)):
                if _copy_entry(from_fd, to_fd, name):
                    directories.append(f"{path}/{name}")
        finally:
            os.close(from_fd)
            os.close(to_fd)
    for path in reversed(directories):
        from_fd = openat2(source, path, _DIRECTORY, 0, _PLAIN)
        to_fd = openat2(target, path, _DIRECTORY, 0, _PLAIN)
        try:
            _copy_attributes(from_fd, to_fd)
        finally:
            os.close(from_fd)
            os.close(to_fd)


def _copy_entry(source: int, target: int, name: str) -> bool:
    """Copy one entry; return True for a directory, which is made but not filled."""
    facts = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(facts.st_mode)
    if kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=target)
        return True
    if kind == stat.S_IFREG:
        _copy_file(source, target, name)
        return False
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK):
        os.mknod(name, facts.st_mode, facts.st_rdev, dir_fd=target)
    else:
        return False
    os.chown(name, facts.st_uid, facts.st_gid, dir_fd=target, follow_symlinks=False)
    if kind != stat.S_IFLNK:
        os.chmod(name, stat.S_IMODE(facts.st_mode), dir_fd=target)
    times = (facts.st_atime_ns, facts.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
    return False


def _copy_file(source: int, target: int, name: str) -> None:
    reading = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    writing = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    from_fd = os.open(name, reading, dir_fd=source)
    try:
        to_fd = os.open(name, writing, 0o600, dir_fd=target)
        try:
            while os.sendfile(to_fd, from_fd, None, _CHUNK):
                pass
            _copy_attributes(from_fd, to_fd)
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)


def _copy_attributes(source: int, target: int) -> None:
    facts = os.fstat(source)
    # chown(2) clears set-id bits and capabilities, so it comes first.
    os.fchown(target, facts.st_uid, facts.st_gid)
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    for name in os.listxattr(source):
        if name.startswith(_XATTRS):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
