"""Host device nodes for containers: looked at on the host, described for the translation."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.request import HostDevice, TranslationError
from runtime.oci.translate_mounts import normal_path

_MAX_DEVICES = 4096
# Directories of /dev that hold no devices of the machine, or those of somebody's own terminal;
# the container gets its own of each.
_SKIPPED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def requested_devices(config: cri.ContainerConfig) -> tuple[HostDevice, ...]:
    """Look at the devices that a container asks for; all of the host's for a privileged one.

    A directory stands for the devices below it, as with containerd.

    Raises:
        TranslationError: a path is no device, or the permissions are not of ``rwm``.
    """
    found: dict[str, HostDevice] = {}
    if config.linux.security_context.privileged:
        found = {device.path: device for device in _below(Path("/dev"), "/dev", "rwm")}
        # The container's own terminal, and the multiplexer of its own devpts, go there.
        for path in ("/dev/console", "/dev/ptmx"):
            found.pop(path, None)
    for number, device in enumerate(config.devices):
        what = f"devices[{number}]"
        access = device.permissions or "rwm"
        if not set(access) <= set("rwm"):
            raise TranslationError(f"{what}.permissions {access!r} are not of the letters rwm")
        target = normal_path(device.container_path or device.host_path, f"{what}.container_path")
        for item in _requested(what, device.host_path, target, access):
            found[item.path] = item
    return tuple(found.values())


def _requested(what: str, source: str, target: str, access: str) -> list[HostDevice]:
    try:
        path = Path(source).resolve(strict=True)
        if path.is_dir():
            devices = list(_below(path, target, access))
        else:
            devices = [device] if (device := _describe(path, target, access)) else []
    except (OSError, RuntimeError, ValueError) as error:
        raise TranslationError(f"{what}.host_path {source!r}: {error}") from error
    if not devices:
        raise TranslationError(f"{what}.host_path {source!r} is no device and holds none")
    return devices


def _below(directory: Path, target: str, access: str) -> Iterator[HostDevice]:
    pending = [(directory, target)]
    count = 0
    while pending:
        here, there = pending.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            # Device directories come and go with their hardware.
            continue
        for entry in entries:
            path = f"{there}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED:
                    pending.append((Path(entry.path), path))
            elif not entry.is_symlink() and (device := _describe(entry.path, path, access)):
                count += 1
                if count > _MAX_DEVICES:
                    raise TranslationError(f"{directory} holds more than {_MAX_DEVICES} devices")
                yield device


def _describe(path: str | Path, target: str, access: str) -> HostDevice | None:
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISCHR(facts.st_mode):
        kind = "c"
    elif stat.S_ISBLK(facts.st_mode):
        kind = "b"
    else:
        return None
    return HostDevice(
        path=target,
        kind=kind,
        major=os.major(facts.st_rdev),
        minor=os.minor(facts.st_rdev),
        mode=stat.S_IMODE(facts.st_mode),
        uid=facts.st_uid,
        gid=facts.st_gid,
        access=access,
    )
