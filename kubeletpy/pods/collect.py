"""Which dead containers and sandboxes of a living pod nobody needs any more; pure.

The Go kubelet keeps one dead container per name (``maximum-dead-containers-per-container``), for
its logs and its exit code, and every sandbox that still holds a container, the newest one always.
Unlike there, the newest of each name is kept whatever that flag says: it tells what to do next.
"""

from __future__ import annotations

from collections import Counter

from .plan import Plan
from .restarts import every_container
from .state import ContainerPhase, ContainerRecord


def garbage(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return ids of containers and of sandboxes to remove."""
    observed = plan.observed
    names = {one.name for one in every_container(plan.desired.pod)}
    dead, kept = plan.desired.dead, Counter[str]()
    seen: set[str] = set()
    removable: list[str] = []
    held: set[str] = set()
    for record in observed.containers:
        newest = record.name not in seen
        seen.add(record.name)
        keep = _alive(plan, record) or (newest and record.name in names)
        old_at = record.created_at + dead.minimum_age
        if record.exited and (dead.each < 0 or kept[record.name] < dead.each):
            kept[record.name] += 1
            keep = True
        elif record.exited and not keep and record.created_at <= plan.now < old_at:
            # A time of creation in the future means that the clock was set back.
            plan.wake(old_at)
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
