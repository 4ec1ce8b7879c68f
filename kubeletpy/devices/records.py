"""Which container has which devices: ``kubelet_internal_checkpoint``, the Go kubelet's file."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeletpy.affinity.checksums import checksum, mapping, sequence, struct
from kubeletpy.affinity.state_file import StateError, read_state, write_state

FILE = "kubelet_internal_checkpoint"
NO_NODE = -1
"""The NUMA node of devices that tell of none."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Devices of one resource that a container has.

    Attributes:
        nodes: device ids by NUMA node (`NO_NODE` for none).
        answer: the plug-in's ContainerAllocateResponse, serialized.
    """

    nodes: Mapping[int, tuple[str, ...]]
    answer: bytes = b""

    @property
    def ids(self) -> frozenset[str]:
        """All device ids."""
        return frozenset(one for ids in self.nodes.values() for one in ids)


@dataclass
class Records:
    """All grants, by pod UID, container and resource.

    Attributes:
        registered: healthy devices of each resource when the file was written.
    """

    grants: dict[str, dict[str, dict[str, Grant]]] = field(default_factory=dict)
    registered: dict[str, list[str]] = field(default_factory=dict)

    def of(self, uid: str, container: str) -> Mapping[str, Grant]:
        """Return the grants of a container by resource."""
        return self.grants.get(uid, {}).get(container, {})

    def put(self, uid: str, container: str, resource: str, grant: Grant) -> None:
        """Record a grant."""
        self.grants.setdefault(uid, {}).setdefault(container, {})[resource] = grant

    def every(self) -> Iterator[tuple[str, str, str, Grant]]:
        """Yield pod UID, container, resource and grant, in a fixed order."""
        for uid, containers in sorted(self.grants.items()):
            for container, resources in sorted(containers.items()):
                for resource, grant in sorted(resources.items()):
                    yield uid, container, resource, grant

    def taken(self, resource: str) -> set[str]:
        """Return the ids of a resource that some container has."""
        return {
            one
            for containers in self.grants.values()
            for resources in containers.values()
            if resource in resources
            for one in resources[resource].ids
        }


def load(directory: Path) -> Records | None:
    """Return what the file says, or None if there is none.

    Raises:
        StateError: the file is damaged.
    """
    document = read_state(directory / FILE)
    if document is None:
        return None
    found = Records()
    try:
        data = document["Data"]
        for entry in data["PodDeviceEntries"] or []:
            nodes = {
                int(node): tuple(str(one) for one in ids)
                for node, ids in (entry["DeviceIDs"] or {}).items()
            }
            answer = base64.b64decode(entry["AllocResp"] or "", validate=True)
            uid, container = str(entry["PodUID"]), str(entry["ContainerName"])
            found.put(uid, container, str(entry["ResourceName"]), Grant(nodes, answer))
        for resource, ids in (data["RegisteredDevices"] or {}).items():
            found.registered[str(resource)] = [str(one) for one in ids or []]
        if document["Checksum"] != _checksum(data):
            raise StateError("the checksum is of another content")
    except (KeyError, ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise StateError(f"{type(error).__name__}: {error}") from error
    return found


def save(directory: Path, records: Records) -> None:
    """Write what is recorded.

    Raises:
        OSError: it cannot be written.
    """
    entries = [
        {
            "PodUID": uid,
            "ContainerName": container,
            "ResourceName": resource,
            "DeviceIDs": {str(node): list(ids) for node, ids in sorted(grant.nodes.items())},
            "AllocResp": base64.b64encode(grant.answer).decode(),
        }
        for uid, container, resource, grant in records.every()
    ]
    data = {
        "PodDeviceEntries": entries or None,
        "RegisteredDevices": dict(sorted(records.registered.items())),
    }
    write_state(directory / FILE, {"Data": data, "Checksum": _checksum(data)})


def _checksum(data: Mapping[str, Any]) -> int:
    entries = data["PodDeviceEntries"]
    registered = {
        name: "<nil>" if ids is None else sequence(ids)
        for name, ids in (data["RegisteredDevices"] or {}).items()
    }
    text = struct(
        (
            "PodDeviceEntries",
            "[]checkpoint.PodDevicesEntry",
            "<nil>" if entries is None else sequence(_entry(one) for one in entries),
        ),
        ("RegisteredDevices", "map[string][]string", mapping(registered)),
    )
    return checksum("(checkpoint.checkpointData)" + text)


def _entry(entry: Mapping[str, Any]) -> str:
    nodes = {int(node): sequence(ids or []) for node, ids in (entry["DeviceIDs"] or {}).items()}
    answer = base64.b64decode(entry["AllocResp"] or "")
    return struct(
        ("PodUID", "string", entry["PodUID"]),
        ("ContainerName", "string", entry["ContainerName"]),
        ("ResourceName", "string", entry["ResourceName"]),
        ("DeviceIDs", "checkpoint.DevicesPerNUMA", mapping(nodes)),
        ("AllocResp", "[]uint8", sequence(answer)),
    )
