"""Which memory of which NUMA nodes belongs to which container: ``memory_manager_state``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .checksums import checksum, mapping, sequence, struct
from .state_file import StateError, read_state, write_state

FILE = "memory_manager_state"
_TABLE = (
    ("TotalMemSize", "total"),
    ("SystemReserved", "systemReserved"),
    ("Allocatable", "allocatable"),
    ("Reserved", "reserved"),
    ("Free", "free"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """Memory of one kind on a group of NUMA nodes.

    Attributes:
        nodes: the group.
        kind: ``memory`` or ``hugepages-2Mi`` and the like.
        size: bytes.
    """

    nodes: tuple[int, ...]
    kind: str
    size: int


@dataclass
class Table:
    """Memory of one kind on one node, in bytes; ``huge`` of it are huge pages, another kind."""

    total: int
    system_reserved: int
    reserved: int = 0
    huge: int = 0

    @property
    def allocatable(self) -> int:
        """What containers can have."""
        return self.total - self.system_reserved - self.huge

    @property
    def free(self) -> int:
        """What no container has."""
        return self.allocatable - self.reserved


@dataclass
class Node:
    """One NUMA node.

    Attributes:
        tables: its memory by kind.
        cells: the group of nodes that it serves together with; itself, if it serves alone.
        assignments: how many blocks it has a part in.
    """

    tables: dict[str, Table]
    cells: tuple[int, ...]
    assignments: int = 0


Machine = dict[int, Node]
Entries = dict[str, dict[str, list[Block]]]


def occupied(empty: Mapping[int, Node], blocks: Iterable[Block]) -> Machine:
    """Return the nodes with all blocks taken from them.

    Raises:
        KeyError: a block is of a node, or of a kind of memory, that there is not.
    """
    machine = {
        number: Node({kind: replace(one) for kind, one in node.tables.items()}, node.cells)
        for number, node in empty.items()
    }
    for block in blocks:
        left = block.size
        for number in block.nodes:
            node = machine[number]
            node.assignments += 1
            node.cells = block.nodes
            part = min(left, max(node.tables[block.kind].free, 0))
            node.tables[block.kind].reserved += part
            left -= part
    return machine


@dataclass
class MemoryState:
    """The blocks of all containers.

    Attributes:
        policy: ``None`` or ``Static``.
        entries: by pod UID and container.
        noted: the nodes as the file had them.
    """

    policy: str
    entries: Entries = field(default_factory=dict)
    noted: dict[int, dict[str, dict[str, int]]] = field(default_factory=dict)

    def blocks(self) -> list[Block]:
        """Return all blocks, in a fixed order."""
        return [
            block
            for _, containers in sorted(self.entries.items())
            for _, blocks in sorted(containers.items())
            for block in blocks
        ]


def document(state: MemoryState, machine: Machine) -> dict[str, Any]:
    """Return the content of the file."""
    nodes = {
        str(number): {
            "numberOfAssignments": node.assignments,
            "memoryMap": {kind: figures(one) for kind, one in sorted(node.tables.items())},
            "cells": list(node.cells),
        }
        for number, node in sorted(machine.items())
    }
    found: dict[str, Any] = {"policyName": state.policy, "machineState": nodes}
    if state.entries:
        found["entries"] = {
            uid: {
                name: [
                    {"numaAffinity": list(one.nodes), "type": one.kind, "size": one.size}
                    for one in blocks
                ]
                for name, blocks in sorted(containers.items())
            }
            for uid, containers in sorted(state.entries.items())
        }
    found["checksum"] = _checksum(found)
    return found


def figures(table: Table) -> dict[str, int]:
    """Return a table as the file has it."""
    return {
        "total": table.total,
        "systemReserved": table.system_reserved,
        "allocatable": table.allocatable,
        "reserved": table.reserved,
        "free": table.free,
    }


def _checksum(found: Mapping[str, Any]) -> int:
    nodes = {}
    for number, node in found["machineState"].items():
        tables = {
            kind: "<*>" + struct(*((go, "uint64", str(table[key])) for go, key in _TABLE))
            for kind, table in node["memoryMap"].items()
        }
        nodes[int(number)] = "<*>" + struct(
            ("NumberOfAssignments", "int", str(node["numberOfAssignments"])),
            ("MemoryMap", "map[v1.ResourceName]*state.MemoryTable", mapping(tables)),
            ("Cells", "[]int", sequence(node["cells"])),
        )
    entries = {
        uid: mapping({name: sequence(map(_block, blocks)) for name, blocks in containers.items()})
        for uid, containers in found.get("entries", {}).items()
    }
    text = struct(
        ("PolicyName", "string", found["policyName"]),
        ("MachineState", "state.NUMANodeMap", mapping(nodes)),
        ("Entries", "state.ContainerMemoryAssignments", mapping(entries)),
        ("Checksum", "checksum.Checksum", "0"),
    )
    return checksum("(*state.MemoryManagerCheckpoint)" + text)


def _block(block: Mapping[str, Any]) -> str:
    return struct(
        ("NUMAAffinity", "[]int", sequence(block["numaAffinity"])),
        ("Type", "v1.ResourceName", block["type"]),
        ("Size", "uint64", str(block["size"])),
    )


def load(directory: Path) -> MemoryState | None:
    """Return the state in the file, or None if there is none.

    Raises:
        StateError: the file is damaged.
    """
    found = read_state(directory / FILE)
    if found is None:
        return None
    try:
        state = MemoryState(str(found["policyName"]))
        for uid, containers in (found.get("entries") or {}).items():
            state.entries[str(uid)] = {
                str(name): [
                    Block(tuple(map(int, one["numaAffinity"])), str(one["type"]), int(one["size"]))
                    for one in blocks
                ]
                for name, blocks in containers.items()
            }
        for number, node in (found["machineState"] or {}).items():
            state.noted[int(number)] = node["memoryMap"]
        if found["checksum"] != _checksum(found):
            raise StateError("the checksum is of another content")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StateError(f"{type(error).__name__}: {error}") from error
    return state


def save(directory: Path, state: MemoryState, machine: Machine) -> None:
    """Write the state.

    Raises:
        OSError: it cannot be written.
    """
    write_state(directory / FILE, document(state, machine))
