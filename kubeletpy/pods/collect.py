"""Which dead containers and sandboxes of a living pod nobody needs any more; pure.

The Go kubelet keeps one dead container per name (``maximum-dead-containers-per-container`` 1), for
its logs and its exit code, and every sandbox that still holds a container, the newest one always.
"""

from __future__ import annotations

from .plan import Plan
from .restarts import every_container
from .state import ContainerPhase, ContainerRecord


def garbage(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return ids of containers and of sandboxes to remove."""
    observed = plan.observed
    names = {one.name for one in every_container(plan.desired.pod)}
    dead_kept: set[str] = set()
    seen: set[str] = set()
    removable: list[str] = []
    held: set[str] = set()
    for record in observed.containers:
        newest = record.name not in seen
        seen.add(record.name)
        keep = _alive(plan, record) or (newest and record.name in names)
        if record.exited and record.name not in dead_kept:
            dead_kept.add(record.name)
            keep = True
        if keep or plan.blocked(record.id):
            held.add(record.sandbox_id)
        else:
            removable.append(record.id)
    current = observed.sandbox
    sandboxes = tuple(
        box.id
        for box in observed.sandboxes
        if current is not None
        and box.id != current.id
        and not (box.ready or box.id in held or plan.blocked(box.id))
    )
    return tuple(removable), sandboxes


def _alive(plan: Plan, record: ContainerRecord) -> bool:
    return record.running or (
        record.phase is ContainerPhase.UNKNOWN and record.id not in plan.observed.killed
    )
