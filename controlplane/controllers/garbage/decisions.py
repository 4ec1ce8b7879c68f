"""What to do with an object because of its owners and its dependents (pure).

::

    deleted, not in the foreground ----------------------------> wait for its end
    deleted with "orphan" -----> take it out of its dependents -> take off the finalizer
    deleted with "foregroundDeletion" --- blocking dependents? -> look at them
                                      \\-- none ---------------> take off the finalizer
    an owner is there ------- some are absent or waiting -------> take these out of its references
    no owner is there ------- one waits, dependents ------------> delete in the foreground
                      \\----- otherwise ------------------------> delete
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .graph import FOREGROUND, ORPHAN, Node


class State(enum.Enum):
    """What there is of an owner."""

    SOLID = "it is there, and does not wait for its dependents"
    WAITING = "it is there, and waits for its dependents to be gone"
    ABSENT = "there is no such object"
    UNKNOWN = "the reference cannot be followed: no such kind, or one that cannot own this object"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do.

    Attributes:
        look: uids of dependents to look at.
        orphan: uids of dependents that are to forget this object.
        forget: uids of owners to take out of its references.
        unblock: its references are no longer to block any owner.
        release: finalizer to take off at the end; "": none.
        delete: how to delete it; "": not at all.
        later: look again later; a reference cannot be followed now.
    """

    look: tuple[str, ...] = ()
    orphan: tuple[str, ...] = ()
    forget: frozenset[str] = frozenset()
    unblock: bool = False
    release: str = ""
    delete: str = ""
    later: bool = False


NOTHING = Decision()


def decide(node: Node, dependents: Sequence[Node], owners: Mapping[str, State]) -> Decision:
    """Return what to do with an object.

    Args:
        node: the object as it is now.
        dependents: the objects that name it as an owner.
        owners: what there is of the owners it names, by uid.
    """
    if node.orphans:
        return Decision(orphan=tuple(one.uid for one in dependents), release=ORPHAN)
    if node.waits:
        blocking = [one for one in dependents if _blocks(one, node.uid)]
        if not blocking:
            return Decision(release=FOREGROUND)
        return Decision(look=tuple(one.uid for one in blocking if not one.waits))
    if node.deleting or not node.owners:
        return NOTHING
    states = set(owners.values())
    if State.UNKNOWN in states:
        return Decision(later=True)
    if State.SOLID in states:
        gone = frozenset(uid for uid, state in owners.items() if state is not State.SOLID)
        return Decision(forget=gone)
    if State.WAITING in states and dependents:
        # Objects that wait for each other would wait forever.
        circle = any(one.waits for one in dependents)
        return Decision(delete="Foreground", unblock=circle)
    return Decision(delete=_propagation(node))


def _blocks(dependent: Node, uid: str) -> bool:
    return any(owner.blocks and owner.uid == uid for owner in dependent.owners)


def _propagation(node: Node) -> str:
    if ORPHAN in node.finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in node.finalizers else "Background"
