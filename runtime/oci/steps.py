"""The steps that build a container's file system, each small, printable and timed alike.

They run in the container's first process, in its new mount namespace, before pivot_root. Targets
are looked up inside the new root by openat2 and mounts are attached to the descriptor that came of
it, so nothing that another container does to a shared volume meanwhile can move a mount elsewhere
(CVE-2021-30465, CVE-2024-45310). What belongs on procfs is reached through the descriptor of the
procfs mount just made (CVE-2019-16884, CVE-2025-52881), and /dev/null and terminals through
descriptors of the host's device or of the container's own devpts (CVE-2025-31133, CVE-2025-52565).
"""

from __future__ import annotations

import os
import stat

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE
from kubeletpy_common.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    make_directories_in_root,
    open_in_root,
    openat2,
)
from kubeletpy_common.record import Record
from runtime.oci.null_device import clone_null
from runtime.oci.options import MountOptions
from runtime.oci.user_namespace import map_ids

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol

    class Step(Protocol):
        """One thing to do."""

        def describe(self) -> str:
            """Say it in a line, for errors and for people."""
            ...

        def execute(self, context: Context) -> None:
            """Do it.

            Raises:
                OSError: the kernel refused.
            """
            ...


# What per-container views of the machine (lxcfs) replace; none of them is written to by a runtime.
_HARMLESS_ON_PROCFS: Final = frozenset(
    f"/proc/{name}"
    for name in "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev".split()
)


class Context:
    """What the steps of one container hand on to each other.

    Attributes:
        root_fd: the new root, once mounted.
        sources: detached clones of bind mounts' sources, by the number of the mount.
        file_systems: descriptors of the kernel file systems just mounted, by type.
        null_fd: the host's /dev/null.
        user_namespace: the pod's user namespace, -1 for the host's.
    """

    def __init__(self, user_namespace: int = -1) -> None:
        self.root_fd = -1
        self.sources: dict[int, int] = {}
        self.file_systems: dict[str, int] = {}
        self.null_fd = -1
        self.user_namespace = user_namespace


class OpenSource(Record):
    """Clone a bind mount's source while the host's tree still has its shared peers."""

    number: int
    source: str
    recursive: bool

    def describe(self) -> str:
        """Say it in a line."""
        return f"take {self.source}"

    def execute(self, context: Context) -> None:
        """Open a detached clone of the source."""
        flags = m.OPEN_TREE_CLONE | (AT_RECURSIVE if self.recursive else 0)
        context.sources[self.number] = m.open_tree(AT_FDCWD, self.source, flags)


class IsolateMounts(Record):
    """Cut this mount namespace off from the host's, so that nothing mounted here shows there."""

    propagation: int

    def describe(self) -> str:
        """Say it in a line."""
        return "isolate the mount namespace"

    def execute(self, context: Context) -> None:
        """Change the propagation of every mount, and keep the host's /dev/null at hand."""
        m.mount(None, "/", None, m.MS_REC | self.propagation)
        context.null_fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)


class MountFileSystem(Record):
    """Mount a new instance of a kernel file system (proc, tmpfs, devpts, ...)."""

    fstype: str
    target: str
    options: MountOptions

    def describe(self) -> str:
        """Say it in a line."""
        return f"mount {self.fstype} on {self.target}"

    def execute(self, context: Context) -> None:
        """Make, configure and attach it."""
        mount_fd = make_file_system(self.fstype, self.options)
        # An image may not send the kernel's own trees elsewhere by a link (CVE-2019-19921).
        plain = self.fstype in ("proc", "sysfs")
        target = open_directory(context.root_fd, self.target, follow=not plain)
        m.attach(mount_fd, target)
        os.close(target)
        context.file_systems[self.fstype] = mount_fd


class MountCgroups(Record):
    """Show the container its own cgroups, read-only unless asked otherwise."""

    target: str
    options: MountOptions

    def describe(self) -> str:
        """Say it in a line."""
        return f"mount the cgroup file systems on {self.target}"

    def execute(self, context: Context) -> None:
        """Mount cgroup2, or a tmpfs with a directory for each v1 hierarchy and their aliases."""
        target = open_directory(context.root_fd, self.target)
        hierarchies = list_hierarchies()
        if set(hierarchies) == {""}:
            m.attach(make_file_system("cgroup2", self.options), target)
            os.close(target)
            return
        tmpfs = m.fsopen("tmpfs")
        m.fsconfig_set_string(tmpfs, "mode", "755")
        m.fsconfig_create(tmpfs)
        holder = m.fsmount(tmpfs, m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC)
        m.attach(holder, target)
        for controllers in hierarchies:
            # Version 2 beside them has no controllers. As with runc it is not shown: who finds it
            # takes the machine for one whose limits are there.
            if controllers:
                self._add(holder, controllers)
        m.set_mount_attributes(holder, attr_set=self.options.attr_set)
        os.close(target)

    def _add(self, holder: int, controllers: str) -> None:
        name = controllers.removeprefix("name=")
        os.mkdir(name, 0o755, dir_fd=holder)
        words = controllers.split(",")
        parameters = tuple(
            (key, value if equals else None)
            for key, equals, value in (word.partition("=") for word in words)
        )
        options = MountOptions(attr_set=self.options.attr_set, parameters=parameters)
        child = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=holder)
        mount_fd = make_file_system("cgroup", options)
        m.attach(mount_fd, child)
        os.close(child)
        os.close(mount_fd)
        if len(words) > 1:
            for word in words:
                os.symlink(name, word, dir_fd=holder)


class MountBind(Record):
    """Attach a source taken by :class:`OpenSource`."""

    number: int
    source: str
    target: str
    options: MountOptions
    mapped: bool = False

    def describe(self) -> str:
        """Say it in a line."""
        return f"bind {self.source} on {self.target}"

    def execute(self, context: Context) -> None:
        """Set its attributes while it is detached, then attach it."""
        tree = context.sources.pop(self.number)
        if self.mapped:
            map_ids(tree, context.user_namespace, self.source)
        options = self.options
        if options.attr_set or options.attr_clr:
            m.set_mount_attributes(tree, attr_set=options.attr_set, attr_clr=options.attr_clr)
        if options.recursive_set:
            m.set_mount_attributes(tree, attr_set=options.recursive_set, flags=AT_RECURSIVE)
        propagation = options.propagation or m.MS_PRIVATE
        m.set_mount_attributes(tree, propagation=propagation, flags=AT_RECURSIVE)
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            target = open_directory(context.root_fd, self.target)
        else:
            target = open_file(context.root_fd, self.target)
        check_not_on_procfs(context, target, self.target)
        m.attach(tree, target)
        os.close(target)
        os.close(tree)


class MakeDevice(Record):
    """Make a device node."""

    path: str
    mode: int
    device: int
    uid: int
    gid: int

    def describe(self) -> str:
        """Say it in a line."""
        return f"make the device {self.path}"

    def execute(self, context: Context) -> None:
        """Make it, replacing what the image has there."""
        parent, name = open_parent(context.root_fd, self.path)
        unlink_if_there(parent, name)
        os.mknod(name, self.mode, self.device, dir_fd=parent)
        # mknod(2) applies the umask, and the owner is the caller.
        node = openat2(parent, name, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_BENEATH)
        os.chown(f"/proc/self/fd/{node}", self.uid, self.gid)
        os.chmod(f"/proc/self/fd/{node}", stat.S_IMODE(self.mode))
        os.close(node)
        os.close(parent)


class MakeLink(Record):
    """Make a symbolic link."""

    path: str
    target: str

    def describe(self) -> str:
        """Say it in a line."""
        return f"link {self.path} to {self.target}"

    def execute(self, context: Context) -> None:
        """Make it, unless the image already has something there."""
        parent, name = open_parent(context.root_fd, self.path)
        try:
            os.symlink(self.target, name, dir_fd=parent)
        except FileExistsError:
            pass
        os.close(parent)


class MakeDirectory(Record):
    """Make a directory that the process will start in, as every OCI runtime does."""

    path: str

    def describe(self) -> str:
        """Say it in a line."""
        return f"make the directory {self.path}"

    def execute(self, context: Context) -> None:
        """Make what is missing of it."""
        os.close(make_directories_in_root(context.root_fd, self.path))


class MaskPath(Record):
    """Hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs."""

    path: str

    def describe(self) -> str:
        """Say it in a line."""
        return f"mask {self.path}"

    def execute(self, context: Context) -> None:
        """Hide it; a path that this kernel does not have needs no hiding."""
        target = open_existing(context, self.path)
        if target is None:
            return
        if stat.S_ISDIR(os.fstat(target).st_mode):
            mask = make_file_system("tmpfs", MountOptions(attr_set=m.MOUNT_ATTR_RDONLY))
        else:
            mask = clone_null(context.null_fd)
        m.attach(mask, target)
        os.close(mask)
        os.close(target)


class ProtectPath(Record):
    """Make a path read-only."""

    path: str

    def describe(self) -> str:
        """Say it in a line."""
        return f"make {self.path} read-only"

    def execute(self, context: Context) -> None:
        """Bind it on itself, read-only."""
        target = open_existing(context, self.path)
        if target is None:
            return
        tree = m.open_tree(target, "", m.OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE)
        m.set_mount_attributes(tree, attr_set=m.MOUNT_ATTR_RDONLY)
        m.attach(tree, target)
        os.close(tree)
        os.close(target)


class ProtectRoot(Record):
    """Make the root file system read-only; what is mounted on it keeps its own attributes."""

    def describe(self) -> str:
        """Say it in a line."""
        return "make the root read-only"

    def execute(self, context: Context) -> None:
        """Set the attribute on the root mount alone."""
        m.set_mount_attributes(context.root_fd, attr_set=m.MOUNT_ATTR_RDONLY)


def make_file_system(fstype: str, options: MountOptions) -> int:
    """Return a detached mount of a new ``fstype``.

    Raises:
        OSError: the kernel refused.
    """
    config = m.fsopen(fstype)
    try:
        # What the first column of /proc/mounts shows.
        m.fsconfig_set_string(config, "source", fstype)
        for key, value in options.parameters:
            if value is None:
                m.fsconfig_set_flag(config, key)
            else:
                m.fsconfig_set_string(config, key, value)
        m.fsconfig_create(config)
        return m.fsmount(config, options.attr_set)
    finally:
        os.close(config)


def list_hierarchies() -> list[str]:
    """Return the controllers of each mounted cgroup hierarchy, "" for that of version 2."""
    with open("/proc/self/cgroup") as stream:
        # cgroups(7): hierarchy-ID:controller-list:path
        return [line.split(":", 2)[1] for line in stream]


def open_directory(root_fd: int, path: str, *, follow: bool = True) -> int:
    """Open a mount target inside the root, made if missing.

    Args:
        root_fd: the new root.
        path: absolute, as the container sees it.
        follow: follow symbolic links of the image, inside the root.

    Raises:
        OSError: it is no directory, or a link with ``follow`` false.
    """
    os.close(make_directories_in_root(root_fd, path))
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if follow else RESOLVE_NO_SYMLINKS)
    return openat2(root_fd, path, os.O_PATH | os.O_DIRECTORY, 0, resolve)


def open_file(root_fd: int, path: str) -> int:
    """Open a mount target that is no directory inside the root, made empty if missing.

    Raises:
        OSError: the kernel refused.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH)
    except FileNotFoundError:
        parent, name = open_parent(root_fd, path)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            os.close(openat2(parent, name, flags, 0o644, RESOLVE_BENEATH))
        except FileExistsError:
            pass
        finally:
            os.close(parent)
        return open_in_root(root_fd, path, os.O_PATH)


def open_parent(root_fd: int, path: str) -> tuple[int, str]:
    """Open the directory of ``path`` inside the root, made if missing; return it and the name.

    Raises:
        OSError: the path has no last name, or the kernel refused.
    """
    directory, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(f"{path!r} names no file to make in the container's root")
    return make_directories_in_root(root_fd, directory), name


def open_existing(context: Context, path: str) -> int | None:
    """Open ``path``, below /proc or /sys on the very file system mounted there; None if missing.

    Raises:
        OSError: the kernel refused.
    """
    flags = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
    try:
        for prefix, fstype in (("/proc/", "proc"), ("/sys/", "sysfs")):
            if path.startswith(prefix) and fstype in context.file_systems:
                below = path.removeprefix(prefix)
                return openat2(context.file_systems[fstype], below, os.O_PATH, 0, flags)
        return open_in_root(context.root_fd, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_not_on_procfs(context: Context, target: int, path: str) -> None:
    """Refuse a volume over or inside the container's procfs, but for some harmless files.

    Writes of the runtime, of security labels for instance, would land in the volume.

    Raises:
        PermissionError: the target lies on procfs.
    """
    procfs = context.file_systems.get("proc")
    if procfs is None or os.fstat(procfs).st_dev != os.fstat(target).st_dev:
        return
    if os.path.normpath(path) not in _HARMLESS_ON_PROCFS:
        raise PermissionError(
            f"mount target {path!r} lies on the container's procfs; choose another path"
        )


def unlink_if_there(parent: int, name: str) -> None:
    """Remove a file, if it is there."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
