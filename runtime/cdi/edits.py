"""Putting the edits of CDI devices into an OCI configuration."""

from __future__ import annotations

import os
import stat
from typing import Any

import msgspec

from runtime.cdi.spec import CdiError, DeviceNode, Edits, Mount
from runtime.oci.translate_mounts import normal_path

_KINDS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}


def complete_edits(edits: Edits) -> Edits:
    """Return edits with all that the host knows of their device nodes; looks at the host.

    Raises:
        CdiError: a device node or the source of a bind mount does not exist, or is something else.
    """
    for mount in edits.mounts:
        if _is_bind(mount) and not os.path.exists(mount.hostPath):
            raise CdiError(f"the CDI mount's host path {mount.hostPath!r} does not exist")
    nodes = tuple(_complete_node(node) for node in edits.deviceNodes)
    return msgspec.structs.replace(edits, deviceNodes=nodes)


def _complete_node(node: DeviceNode) -> DeviceNode:
    path = node.hostPath or node.path
    whole = bool(node.type) and (bool(node.major) or node.type == "p")
    try:
        facts = os.stat(path)
    except OSError as error:
        if whole:
            # A vendor may describe a node that the host itself has not.
            return node
        raise CdiError(f"the CDI device node {path!r} cannot be looked at: {error}") from error
    kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "")
    if not kind:
        raise CdiError(f"the CDI device node {path!r} is no device")
    if node.type and {node.type, kind} not in ({kind}, {"c", "u"}):
        raise CdiError(f"the CDI device node {path!r} is of type {kind}, not {node.type}")
    numbers = (node.major, node.minor)
    if kind != "p" and numbers == (0, 0):
        numbers = (os.major(facts.st_rdev), os.minor(facts.st_rdev))
    return msgspec.structs.replace(node, type=node.type or kind, major=numbers[0], minor=numbers[1])


def merge_edits(config: dict[str, Any], edits: Edits) -> None:
    """Change an OCI configuration as completed edits say (pure).

    A later variable, node or mount replaces an earlier one of the same name or path. As with the
    reference implementation a node without an owner belongs to the container's user, and additional
    groups of 0 are ignored.

    Raises:
        CdiError: a mount would replace the root or procfs.
        TranslationError: a path is no path.
    """
    process, linux = config["process"], config["linux"]
    _merge_environment(process, edits.env)
    for node in edits.deviceNodes:
        _merge_node(config, node)
    for mount in edits.mounts:
        _merge_mount(config, mount)
    if edits.mounts:
        # Nothing may hide what was mounted before below it; otherwise the order stays.
        config["mounts"].sort(key=lambda mount: mount["destination"].rstrip("/").count("/"))
    for hook in edits.hooks:
        fields = {"path": hook.path, "args": list(hook.args), "env": list(hook.env)}
        given: dict[str, Any] = {key: value for key, value in fields.items() if value}
        if hook.timeout is not None:
            given["timeout"] = hook.timeout
        config.setdefault("hooks", {}).setdefault(hook.hookName, []).append(given)
    if edits.intelRdt:
        linux["intelRdt"] = edits.intelRdt
    for device in edits.netDevices:
        linux.setdefault("netDevices", {})[device.hostInterfaceName] = {"name": device.name}
    groups = process["user"]["additionalGids"]
    groups += [gid for gid in dict.fromkeys(edits.additionalGids) if gid and gid not in groups]


def _merge_environment(process: dict[str, Any], variables: tuple[str, ...]) -> None:
    values = dict(entry.partition("=")[::2] for entry in process["env"])
    values |= dict(entry.partition("=")[::2] for entry in variables)
    process["env"] = [f"{name}={value}" for name, value in values.items()]


def _merge_node(config: dict[str, Any], node: DeviceNode) -> None:
    linux, user = config["linux"], config["process"]["user"]
    path = normal_path(node.path, "the path of a CDI device node")
    device: dict[str, Any] = {"path": path, "type": node.type}
    if node.type != "p":
        device |= {"major": node.major, "minor": node.minor}
    if node.fileMode is not None:
        device["fileMode"] = node.fileMode & 0o7777
    device["uid"] = user["uid"] if node.uid is None else node.uid
    device["gid"] = user["gid"] if node.gid is None else node.gid
    linux["devices"] = [other for other in linux["devices"] if other["path"] != path] + [device]
    access = {"": "rwm", "none": ""}.get(node.permissions, node.permissions)
    if node.type in ("b", "c") and access:
        numbers = {"major": node.major, "minor": node.minor}
        rule = {"allow": True, "type": node.type, **numbers, "access": access}
        linux["resources"]["devices"].append(rule)


def _merge_mount(config: dict[str, Any], mount: Mount) -> None:
    path = normal_path(mount.containerPath, "the path of a CDI mount")
    if path == "/proc":
        raise CdiError("a CDI mount on /proc is refused: the runtime writes to procfs there")
    options = list(mount.options)
    merged: dict[str, Any] = {"destination": path, "source": mount.hostPath}
    if _is_bind(mount):
        options += [] if {"bind", "rbind"} & set(options) else ["rbind"]
        merged["type"] = "bind"
        mappings = {key: config["linux"].get(key) for key in ("uidMappings", "gidMappings")}
        merged |= {key: value for key, value in mappings.items() if value}
    else:
        merged["type"] = mount.type
    merged["options"] = options
    config["mounts"] = [other for other in config["mounts"] if other["destination"] != path]
    config["mounts"].append(merged)


def _is_bind(mount: Mount) -> bool:
    return mount.type in ("", "bind", "none") or bool({"bind", "rbind"} & set(mount.options))
