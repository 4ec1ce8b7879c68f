"""A CDI spec file: its fields, read and checked (SPEC.md of the Container Device Interface)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from runtime.oci.request import TranslationError

MAX_FILE: Final = 4 << 20

_VERSION: Final = re.compile(r"v?(0\.[1-8]|1\.[01])\.[0-9]+")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
_VENDOR: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
_CLASS: Final = re.compile(_LABEL, re.ASCII)
_DEVICE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?", re.ASCII)
_HOOKS: Final = frozenset(
    {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
)


class CdiError(TranslationError):
    """A CDI device cannot be given to a container; the text says which and why."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is unknown is an error, as with the reference implementation."""


class DeviceNode(_Strict, frozen=True):
    """A device node; what is left out is that of ``hostPath``."""

    path: str
    hostPath: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    fileMode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class Mount(_Strict, frozen=True):
    """A mount in OCI's terms."""

    hostPath: str
    containerPath: str
    type: str = ""
    options: tuple[str, ...] = ()


class Hook(_Strict, frozen=True):
    """A program to run beside the container's life, in OCI's terms."""

    hookName: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class NetDevice(_Strict, frozen=True):
    """A network interface of the host to be moved into the container (CDI 1.1)."""

    hostInterfaceName: str
    name: str


class Edits(_Strict, frozen=True):
    """What a device, or all devices of a file, change in an OCI configuration.

    ``intelRdt`` is OCI's object of that name, as it stands in the file.
    """

    env: tuple[str, ...] = ()
    deviceNodes: tuple[DeviceNode, ...] = ()
    netDevices: tuple[NetDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    intelRdt: dict[str, Any] | None = None
    additionalGids: tuple[int, ...] = ()

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            env=self.env + other.env,
            deviceNodes=self.deviceNodes + other.deviceNodes,
            netDevices=self.netDevices + other.netDevices,
            mounts=self.mounts + other.mounts,
            hooks=self.hooks + other.hooks,
            intelRdt=other.intelRdt or self.intelRdt,
            additionalGids=self.additionalGids + other.additionalGids,
        )


class Device(_Strict, frozen=True):
    """A device that can be asked for."""

    name: str
    containerEdits: Edits = Edits()
    annotations: dict[str, str] = {}


class Spec(_Strict, frozen=True):
    """A spec file.

    ``containerEdits`` are for every container that gets any of its devices.
    """

    cdiVersion: str
    kind: str
    devices: tuple[Device, ...]
    containerEdits: Edits = Edits()
    annotations: dict[str, str] = {}


def read_spec(path: Path) -> Spec:
    """Read a file, JSON or YAML by its name, and check it.

    Raises:
        CdiError: naming the file and what is wrong with it.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise CdiError(f"read the CDI spec {path}: {error.strerror}") from error
    if len(content) > MAX_FILE:
        raise CdiError(f"the CDI spec {path} is larger than {MAX_FILE} bytes")
    try:
        document = msgspec.json.decode(content) if path.suffix == ".json" else _yaml(content)
        spec = msgspec.convert(_one_spelling(document), Spec, strict=True)
        _check(spec)
    except (ValueError, RecursionError) as error:
        raise CdiError(f"the CDI spec {path} is no good: {error}") from error
    return spec


def split_name(name: str) -> tuple[str, str]:
    """Return kind and device of a fully qualified name, ``vendor/class=device``.

    Raises:
        CdiError: it is none.
    """
    kind, equals, device = name.partition("=")
    vendor, slash, class_name = kind.partition("/")
    if not (
        equals
        and slash
        and _VENDOR.fullmatch(vendor)
        and _CLASS.fullmatch(class_name)
        and _DEVICE.fullmatch(device)
    ):
        raise CdiError(
            f"CDI device {name!r} is no fully qualified name such as vendor.example/class=device"
        )
    return kind, device


def _yaml(content: bytes) -> Any:
    # Few nodes have such files, and the parser is large.
    import yaml

    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _one_spelling(document: Any) -> Any:
    """Return a document with ``additionalGids`` for the other spelling of the specification."""
    if isinstance(document, list):
        return [_one_spelling(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        "additionalGids" if key == "additionalGIDs" else key: _one_spelling(value)
        for key, value in document.items()
    }


def _check(spec: Spec) -> None:
    if not _VERSION.fullmatch(spec.cdiVersion):
        raise ValueError(f"cdiVersion {spec.cdiVersion!r} is none of 0.1 to 0.8, 1.0 and 1.1")
    if not spec.devices:
        raise ValueError("it has no devices")
    names = [device.name for device in spec.devices]
    for name in names:
        split_name(f"{spec.kind}={name}")
    if len(set(names)) != len(names):
        raise ValueError("two of its devices have one name")
    for edits in (spec.containerEdits, *(device.containerEdits for device in spec.devices)):
        _check_edits(edits)


def _check_edits(edits: Edits) -> None:
    for variable in (*edits.env, *(entry for hook in edits.hooks for entry in hook.env)):
        if variable.find("=") < 1:
            raise ValueError(f"environment variable {variable!r} is not NAME=value")
    for node in edits.deviceNodes:
        if not node.path.startswith("/") or node.type not in ("", "b", "c", "u", "p"):
            raise ValueError(f"device node {node.path!r} of type {node.type!r}: needs an absolute "
                             "path, and b, c, u, p or no type")  # fmt: skip
        if node.permissions != "none" and not set(node.permissions) <= set("rwm"):
            raise ValueError(f"permissions {node.permissions!r} are not of the letters rwm")
    for mount in edits.mounts:
        if not mount.hostPath or not mount.containerPath.startswith("/"):
            raise ValueError(f"mount {mount.hostPath!r} on {mount.containerPath!r}: needs a host "
                             "path, and an absolute path in the container")  # fmt: skip
    for hook in edits.hooks:
        if hook.hookName not in _HOOKS or not hook.path.startswith("/"):
            raise ValueError(f"hook {hook.hookName!r} {hook.path!r}: needs a name of OCI's and an "
                             "absolute path")  # fmt: skip
        if hook.timeout is not None and hook.timeout < 1:
            raise ValueError(f"the timeout of hook {hook.path!r} is not above zero")
