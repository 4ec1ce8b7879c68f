"""Clients of services with affinity: a new table takes them over from the one it replaces."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.portal import Family
from .ruleset import Element, SetSpec, elements_of
from .socket import RuleSocket
from .wire import NFPROTO, Kind, string, text_of

_LEAST_LEFT_MS = 1000


def remembered(
    rules: RuleSocket, table: str, family: Family, wanted: Mapping[str, SetSpec]
) -> dict[str, list[Element]]:
    """Return the clients in ``table``, with the time that they have left, of sets still wanted.

    Only sets of affinity are read, and only what is in those that the new table has too.

    Raises:
        OSError: the kernel refused.
    """
    kept = {name for name, spec in wanted.items() if spec.timeout}
    if not kept:
        return {}
    number = NFPROTO[family]
    sets = rules.dump(Kind.GET_SET, number, string(1, table))
    found: dict[str, list[Element]] = {}
    for name in [text_of(each[2]) for each in sets]:
        if name not in kept:
            continue
        dump = rules.dump(Kind.GET_ELEMENTS, number, string(1, table), string(2, name))
        clients = [
            Element(each.key, expires_ms=each.expires_ms)
            for each in elements_of(dump)
            if each.expires_ms > _LEAST_LEFT_MS
        ]
        if clients:
            found[name] = clients
    return found
