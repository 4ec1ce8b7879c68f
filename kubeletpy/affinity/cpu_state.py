"""Which CPUs belong to which container: ``cpu_manager_state``, the Go kubelet's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import cpusets
from .checksums import checksum, mapping, struct
from .cpusets import EMPTY, CpuSet
from .state_file import StateError, read_state, write_state

FILE = "cpu_manager_state"


@dataclass
class CpuState:
    """CPUs of all (the shared pool) and of single containers.

    Attributes:
        policy: ``none`` or ``static``.
        default: CPUs of containers that have none of their own.
        entries: by pod UID and container, its own CPUs.
    """

    policy: str
    default: CpuSet = EMPTY
    entries: dict[str, dict[str, CpuSet]] = field(default_factory=dict)

    def get(self, uid: str, container: str) -> CpuSet | None:
        """Return the CPUs that are a container's own."""
        return self.entries.get(uid, {}).get(container)

    def put(self, uid: str, container: str, cpus: CpuSet) -> None:
        """Make CPUs a container's own."""
        self.entries.setdefault(uid, {})[container] = cpus

    def drop(self, uid: str, container: str) -> CpuSet:
        """Forget a container; return its CPUs that no other container of its pod has."""
        containers = self.entries.get(uid, {})
        cpus = containers.pop(container, EMPTY)
        if not containers:
            self.entries.pop(uid, None)
        return cpus - frozenset().union(*containers.values())

    def assigned(self) -> CpuSet:
        """Return all CPUs that are some container's own."""
        return frozenset().union(
            *(cpus for containers in self.entries.values() for cpus in containers.values())
        )

    def document(self) -> dict[str, Any]:
        """Return the content of the file."""
        entries = {
            uid: {name: cpusets.show(cpus) for name, cpus in sorted(containers.items())}
            for uid, containers in sorted(self.entries.items())
        }
        document: dict[str, Any] = {
            "policyName": self.policy,
            "defaultCpuSet": cpusets.show(self.default),
        }
        if entries:
            document["entries"] = entries
        document["checksum"] = _checksum(document)
        return document


def _checksum(document: dict[str, Any]) -> int:
    entries = {uid: mapping(one) for uid, one in document.get("entries", {}).items()}
    text = struct(
        ("PolicyName", "string", document["policyName"]),
        ("DefaultCPUSet", "string", document["defaultCpuSet"]),
        ("Entries", "map[string]map[string]string", mapping(entries)),
        ("Checksum", "checksum.Checksum", "0"),
    )
    return checksum("(*state.CPUManagerCheckpoint)" + text)


def load(directory: Path) -> CpuState | None:
    """Return the state in the file, or None if there is none.

    Raises:
        StateError: the file is damaged.
    """
    document = read_state(directory / FILE)
    if document is None:
        return None
    try:
        entries = {
            str(uid): {str(name): cpusets.parse(cpus) for name, cpus in containers.items()}
            for uid, containers in (document.get("entries") or {}).items()
        }
        found = CpuState(str(document["policyName"]), cpusets.parse(document["defaultCpuSet"]))
        found.entries = entries
        if document["checksum"] != _checksum(document):
            raise StateError("the checksum is of another content")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StateError(f"{type(error).__name__}: {error}") from error
    return found


def save(directory: Path, state: CpuState) -> None:
    """Write the state.

    Raises:
        OSError: it cannot be written.
    """
    write_state(directory / FILE, state.document())
