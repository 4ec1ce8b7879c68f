"""From an OCI configuration to the list of steps that build the container's file system (pure)."""

from __future__ import annotations

import os
import stat

from kubeletpy_common.linux import mounts as m
from runtime.oci.hooks import RUN_BY_EXECUTOR, RunHook
from runtime.oci.image_steps import OpenImage
from runtime.oci.mappings import host_owner
from runtime.oci.options import parse_options
from runtime.oci.root_steps import MountRoot
from runtime.oci.steps import (
    IsolateMounts,
    MakeDevice,
    MakeDirectory,
    MakeLink,
    MaskPath,
    MountBind,
    MountCgroups,
    MountFileSystem,
    OpenSource,
    ProtectPath,
    ProtectRoot,
)

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from runtime.oci.options import MountOptions
    from runtime.oci.steps import Step
    from runtime.shim.messages import Rootfs

# OCI runtime specification, config-linux.md "Default Devices".
_DEFAULT_DEVICES: Final = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
# OCI runtime specification, runtime-linux.md "Dev symbolic links"; ptmx by config-linux.md.
_LINKS: Final = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}
_DEVICE_TYPES: Final = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class PlanError(ValueError):
    """The configuration asks for something that no plan can be made of."""


def plan_file_system(config: dict[str, Any], rootfs: Rootfs, target: str) -> list[Step]:
    """Return the steps, in order, that build the file system of ``config`` on ``target``.

    Args:
        config: an OCI runtime configuration.
        rootfs: the overlay of the image's layers.
        target: absolute path of the empty directory that the root is mounted on.

    Raises:
        PlanError: a mount or device is incomplete or of an unknown type.
    """
    linux = config.get("linux", {})
    binds: list[Step] = []
    images: list[Step] = []
    mounts: list[Step] = []
    for number, mount in enumerate(config.get("mounts", [])):
        if mount.get("type") == "image":
            images.append(_plan_image(number, mount, target, mounts))
        else:
            _plan_mount(number, mount, config, binds, mounts)
    return [
        *binds,
        IsolateMounts(m.MS_PRIVATE),
        MountRoot(
            rootfs,
            target,
            tuple(linux.get("uidMappings", [])),
            tuple(linux.get("gidMappings", [])),
        ),
        *images,
        *mounts,
        *_plan_devices(config, linux.get("devices", [])),
        MakeDirectory(config["process"].get("cwd", "/")),
        *_plan_hooks(config, os.path.dirname(target)),
        *(MaskPath(path) for path in linux.get("maskedPaths", [])),
        *(ProtectPath(path) for path in linux.get("readonlyPaths", [])),
        *([ProtectRoot()] if config.get("root", {}).get("readonly") else []),
    ]


def _plan_hooks(config: dict[str, Any], bundle: str) -> list[Step]:
    state = {
        "ociVersion": config.get("ociVersion", ""),
        "id": os.path.basename(bundle),
        "status": "creating",
        "bundle": bundle,
        "annotations": config.get("annotations", {}),
    }
    return [RunHook(hook, state) for hook in config.get("hooks", {}).get(RUN_BY_EXECUTOR, [])]


def _plan_image(number: int, mount: dict[str, Any], place: str, mounts: list[Step]) -> Step:
    """Plan a mount of an image; returns the step that makes it ready."""
    options = parse_options(mount["options"])
    mounts.append(MountBind(number, "an image", mount["destination"], options))
    layers = tuple(mount["layers"])
    return OpenImage(number, mount["source"], layers, mount["subPath"], place)


def _plan_mount(
    number: int,
    mount: dict[str, Any],
    config: dict[str, Any],
    binds: list[Step],
    mounts: list[Step],
) -> None:
    destination = mount.get("destination", "")
    if not destination.startswith("/"):
        raise PlanError(f"mount {number}: destination {destination!r} is not absolute")
    options = parse_options(mount.get("options", []))
    kind = mount.get("type", "")
    if options.bind or kind == "bind":
        source = mount.get("source", "")
        if not source.startswith("/"):
            raise PlanError(f"mount {number} on {destination}: source {source!r} is not absolute")
        binds.append(OpenSource(number, source, options.recursive))
        mounts.append(
            MountBind(number, source, destination, options, bool(mount.get("uidMappings")))
        )
    elif kind in ("cgroup", "cgroup2"):
        mounts.append(MountCgroups(destination, options))
    elif kind:
        mounts.append(MountFileSystem(kind, destination, _own_by_container(config, options)))
    else:
        raise PlanError(f"mount {number} on {destination} has neither a type nor a bind option")


def _own_by_container(config: dict[str, Any], options: MountOptions) -> MountOptions:
    """Put the host's ids for the container's in ``uid`` and ``gid`` of a file system's options."""
    parameters = tuple(
        (key, str(host_owner(config, int(value), int(value))[key == "gid"]))
        if key in ("uid", "gid") and value is not None and value.isdigit()
        else (key, value)
        for key, value in options.parameters
    )
    return options.replaced(parameters=parameters)


def _plan_devices(config: dict[str, Any], devices: list[dict[str, Any]]) -> list[Step]:
    made = [device for device in devices if not _in_volume(device.get("path", ""), config)]
    if not any(_is_own_dev(mount) for mount in config.get("mounts", [])):
        # The image's /dev, or a volume there, is not ours to fill.
        return [_plan_device(device, config) for device in made]
    listed = {device.get("path") for device in devices}
    root = host_owner(config, 0, 0)
    defaults: list[Step] = [
        MakeDevice(path, stat.S_IFCHR | 0o666, os.makedev(*numbers), *root)
        for path, numbers in _DEFAULT_DEVICES.items()
        if path not in listed
    ]
    links: list[Step] = [MakeLink(path, target) for path, target in _LINKS.items()]
    return [*defaults, *(_plan_device(device, config) for device in made), *links]


def _is_own_dev(mount: dict[str, Any]) -> bool:
    return mount.get("destination") == "/dev" and mount.get("type") == "tmpfs"


def _in_volume(path: str, config: dict[str, Any]) -> bool:
    """Tell whether a device's path lies on a volume: nodes there are the host's.

    Where the host's own /dev is mounted they are those of the host itself.
    """
    above = [
        mount
        for mount in config.get("mounts", [])
        if path == mount["destination"] or path.startswith(mount["destination"].rstrip("/") + "/")
    ]
    if not above:
        return False
    deepest = max(above, key=lambda mount: len(mount["destination"]))
    return bool(deepest.get("type") != "tmpfs")


def _plan_device(device: dict[str, Any], config: dict[str, Any]) -> Step:
    path, kind = device.get("path", ""), device.get("type", "")
    if not path.startswith("/") or kind not in _DEVICE_TYPES:
        raise PlanError(
            f"device {path!r} of type {kind!r}: needs an absolute path and c, u, b or p"
        )
    number = 0 if kind == "p" else os.makedev(device["major"], device["minor"])
    mode = _DEVICE_TYPES[kind] | device.get("fileMode", 0o666) & 0o7777
    owner = host_owner(config, device.get("uid", 0), device.get("gid", 0))
    return MakeDevice(path, mode, number, *owner)
