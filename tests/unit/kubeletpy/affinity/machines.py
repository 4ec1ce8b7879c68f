"""Machines for tests: sockets, NUMA nodes, cores and threads in a regular order."""

from __future__ import annotations

from kubeletpy.affinity.machine import Cpu, CpuTopology, Machine, NumaNode
from kubeletpy.api.codec import decode
from kubeletpy.api.pod import Pod

GIB = 1024**3


def cpus(
    sockets: int = 1, nodes: int = 1, cores: int = 2, threads: int = 1, caches: int = 1
) -> CpuTopology:
    """Cores, nodes and caches are per socket; threads of a core are numbered as on Intel's CPUs."""
    found = {}
    total = sockets * cores
    for core in range(total):
        socket, inside = divmod(core, cores)
        for thread in range(threads):
            found[core + thread * total] = Cpu(
                numa=socket * nodes + inside * nodes // cores,
                socket=socket,
                core=core,
                uncore=socket * caches + inside * caches // cores,
            )
    return CpuTopology(found)


def machine(nodes: int, memory: int = 10 * GIB) -> Machine:
    """A socket for each node, two CPUs in each."""
    distances = [
        tuple(10 if one == other else 20 for other in range(nodes)) for one in range(nodes)
    ]
    return Machine(
        cpus(sockets=nodes), {one: NumaNode(memory, {}, distances[one]) for one in range(nodes)}
    )


def pod(uid: str, *containers: dict[str, str], init: tuple[dict[str, str], ...] = ()) -> Pod:
    """A Guaranteed pod; each container gives what it asks for, and ``name``, ``sidecar``."""

    def made(index: int, given: dict[str, str], prefix: str) -> dict[str, object]:
        amounts = {key: value for key, value in given.items() if key not in ("name", "sidecar")}
        amounts.setdefault("cpu", "100m")
        amounts.setdefault("memory", "64Mi")
        found: dict[str, object] = {
            "name": given.get("name", f"{prefix}{index}"),
            "image": "i",
            "resources": {"limits": amounts, "requests": amounts},
        }
        if given.get("sidecar"):
            found["restartPolicy"] = "Always"
        return found

    return decode(
        {
            "metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {
                "containers": [made(*one, "c") for one in enumerate(containers)],
                "initContainers": [made(*one, "i") for one in enumerate(init)],
            },
        },
        Pod,
    )
