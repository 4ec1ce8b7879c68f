"""NFS volumes, inline or as PersistentVolumes.

They are mounted by ``mount.nfs`` where the node has it (it negotiates versions and does locking),
else by the kernel alone, which speaks NFS 4. A server that does not answer holds up the threads of
its own volumes only; an unmount that hangs is forced.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import socket
from pathlib import Path

from kubeletpy_common.linux import mounts

from . import mountinfo
from .context import TIMEOUT, Context
from .errors import VolumeError
from .paths import NFS, PodPaths
from .plugin import MountRecord, SetUp, VolumeRequest, VolumeSource

HELPER = "mount.nfs"
_HELPER_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
UNMOUNT_TIMEOUT = 60.0
"""Seconds until an unmount is forced, as in Go."""


def export_of(source: VolumeSource) -> tuple[str, str] | None:
    """Return server and path; None if it is no NFS volume (pure)."""
    if source.inline is not None:
        inline = source.inline.nfs
        return None if inline is None else (inline.server, inline.path)
    found = source.of_volume("nfs")
    return None if found is None else (str(found.get("server", "")), str(found.get("path", "")))


def device(server: str, path: str) -> str:
    """Return what is mounted, as mount(8) writes it (pure)."""
    return f"[{server}]:{path}" if ":" in server else f"{server}:{path}"


def options_of(request: VolumeRequest) -> list[str]:
    """Return the mount options of a volume (pure)."""
    options = []
    if request.source.volume is not None:
        options = list(request.source.volume["spec"].get("mountOptions") or [])
    if _read_only(request) and "ro" not in options:
        options.append("ro")
    return options


def _read_only(request: VolumeRequest) -> bool:
    inline = request.source.inline
    if inline is not None and inline.nfs is not None:
        return inline.nfs.read_only
    return request.read_only


class NfsPlugin:
    """See `VolumePlugin`."""

    name = NFS
    mount_options = True
    follows = False

    def __init__(self, context: Context) -> None:
        self._context = context

    def supports(self, source: VolumeSource) -> bool:
        """See `VolumePlugin`."""
        return export_of(source) is not None

    def path(self, request: VolumeRequest) -> str:
        """See `VolumePlugin`."""
        return str(request.directory)

    def read_only(self, request: VolumeRequest) -> bool:
        """See `VolumePlugin`."""
        return _read_only(request)

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """See `VolumePlugin`; fsGroup is not applied, the server says who owns what."""
        export = export_of(request.source)
        assert export is not None
        server, path = export
        target = request.directory
        what = f"mounting NFS volume {device(server, path)}"

        def prepare() -> bool:
            if mountinfo.below(target):
                return True
            target.mkdir(mode=0o750, parents=True, exist_ok=True)
            return False

        if await self._context.run(request, what, prepare):
            return SetUp()
        options = options_of(request)
        helper = shutil.which(HELPER, path=_HELPER_PATH)
        if helper is not None:
            await _mount_by_helper(helper, device(server, path), target, options)
        else:
            await self._context.run(
                request, what, lambda: _mount_by_kernel(server, path, target, options)
            )
        return SetUp()

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """See `VolumePlugin`."""
        paths = PodPaths(self._context.node.root_dir, uid)
        target = paths.volume(NFS, record.spec_name)
        # By the list alone: to open what a dead server serves would hang.
        if not mountinfo.below(target):
            return
        what = f"unmounting NFS volume {record.spec_name}"
        polite = self._context.run_for(uid, record.name, what, lambda: _unmount(target, 0))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNMOUNT_TIMEOUT):
                await polite
                return
        # A key of its own: the thread of the polite try hangs.
        await self._context.run_for(
            uid, f"{record.name} by force", what, lambda: _unmount(target, mounts.MNT_FORCE)
        )


async def _mount_by_helper(helper: str, source: str, target: Path, options: list[str]) -> None:
    arguments = [source, str(target), *(["-o", ",".join(options)] if options else [])]
    process = await asyncio.create_subprocess_exec(
        helper, *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise VolumeError("", f"mount of {source} was not done in {TIMEOUT:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = output.decode(errors="replace").strip()[-500:]
        raise VolumeError(
            "",
            f"mount failed: exit status {process.returncode}\nMounting command: {HELPER}\n"
            f"Mounting arguments: {' '.join(arguments)}\nOutput: {said}",
        )


def _mount_by_kernel(server: str, path: str, target: Path, options: list[str]) -> None:
    address = socket.getaddrinfo(server, 2049, type=socket.SOCK_STREAM)[0][4][0]
    flags = mounts.MS_RDONLY if "ro" in options else 0
    given = [option for option in options if option not in ("ro", "rw")]
    if not any(option.startswith(("vers=", "nfsvers=")) for option in given):
        given.append("vers=4.2")
    data = ",".join([*given, f"addr={address}"])
    try:
        mounts.mount(device(server, path), target, "nfs4", flags, data)
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise VolumeError(
                "", f"this kernel has no NFS client; install {HELPER} and its module nfs"
            ) from error
        raise


def _unmount(target: Path, flags: int) -> None:
    try:
        mounts.umount(target, flags | mounts.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
