"""Nodes: of each only what the network between nodes needs.

A node says of itself, in an annotation that it writes on its own Node, how it is set up. It needs
no more than what every kubelet may (Node authorizer, NodeRestriction), and a node without it is
taken to be set up as this one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

import msgspec

from ..model import objects
from .settings import Address, Mode, Network, Settings

ANNOTATION: Final = "kubeletpy.dev/pod-network"
_INTERNAL: Final = "InternalIP"
_LONGEST: Final = 4096
_MOST_CIDRS: Final = 8


class _Struct(msgspec.Struct, rename="camel", gc=False):
    """Base: unknown fields are skipped."""


class Condition(_Struct):
    """A condition of the node."""

    type: str = ""
    status: str = ""
    reason: str = ""


class NodeStatus(_Struct):
    """What of ``status`` is needed."""

    addresses: list[objects.NodeAddress] | None = None
    conditions: list[Condition] | None = None


class NodeObject(_Struct):
    """A v1 Node."""

    metadata: objects.Meta
    spec: objects.NodeSpec = msgspec.field(default_factory=objects.NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


@dataclass(frozen=True)
class Announcement:
    """How a node says that it is set up."""

    mode: Mode
    vni: int
    port: int


@dataclass(frozen=True)
class Member:
    """A node as this network sees it.

    Attributes:
        name, uid: of the Node.
        born: what tells which of two is older.
        cidrs: its pods' networks.
        addresses: where other nodes reach it, the first one first.
        announced: how it is set up; None if it did not say.
        problems: what of it cannot be read.
        annotation: as it is.
        unavailable: status and reason of its condition NetworkUnavailable; None without one.
    """

    name: str
    uid: str = ""
    born: str = ""
    cidrs: tuple[Network, ...] = ()
    addresses: tuple[Address, ...] = ()
    announced: Announcement | None = None
    problems: tuple[str, ...] = ()
    annotation: str = ""
    unavailable: tuple[str, str] | None = None

    @property
    def seniority(self) -> tuple[str, str]:
        """What tells who was there first: of nodes that claim the same, the first has it."""
        return self.born, self.name


def member_of(one: NodeObject) -> Member:
    """Return what counts of a Node; what cannot be read is in ``problems``."""
    meta, problems = one.metadata, []
    texts = one.spec.pod_cidrs or ([one.spec.pod_cidr] if one.spec.pod_cidr else [])
    cidrs: list[Network] = []
    for text in texts[:_MOST_CIDRS]:
        try:
            cidrs.append(ip_network(text))
        except ValueError as error:
            problems.append(f"spec.podCIDRs {text[:60]!r}: {error}")
    addresses = [each.address for each in one.status.addresses or () if each.type == _INTERNAL][
        :_MOST_CIDRS
    ]
    annotation = (meta.annotations or {}).get(ANNOTATION, "")
    announced = None
    if annotation:
        try:
            announced, others = read_annotation(annotation)
            addresses = others or addresses
        except ValueError as error:
            problems.append(f"annotation {ANNOTATION}: {error}")
    found: list[Address] = []
    for text in addresses:
        try:
            found.append(ip_address(text))
        except ValueError as error:
            problems.append(f"address: {error}")
    return Member(
        meta.name, meta.uid, meta.creation_timestamp or "", tuple(cidrs), tuple(found), announced,
        tuple(problems), annotation, _unavailable(one.status.conditions or []),
    )  # fmt: skip


def _unavailable(conditions: list[Condition]) -> tuple[str, str] | None:
    found = [each for each in conditions if each.type == "NetworkUnavailable"]
    return (found[0].status, found[0].reason) if found else None


class _Said(msgspec.Struct):
    mode: str
    vni: int
    port: int
    addresses: list[str] = []


def read_annotation(text: str) -> tuple[Announcement, list[str]]:
    """Return what an annotation says: how the node is set up, and addresses instead of its own.

    Raises:
        ValueError: it is not one of ours.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text)} characters")
    said = msgspec.json.decode(text, type=_Said)
    return Announcement(Mode(said.mode), said.vni, said.port), said.addresses[:_MOST_CIDRS]


def annotation_of(settings: Settings) -> str:
    """Return what a node with these settings says of itself."""
    said: dict[str, Any] = {
        "mode": settings.mode.value, "vni": settings.vni, "port": settings.port,
    }  # fmt: skip
    if settings.addresses:
        said["addresses"] = [str(each) for each in settings.addresses]
    return json.dumps(said, sort_keys=True)
