"""Refuses what would make a namespace use more than its quotas allow."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from controlplane.admission.quotas.ledger import Ledger
from controlplane.admission.refusals import forbidden
from controlplane.api import codec
from controlplane.api.resource import Context, Object, Resource
from controlplane.controllers.quota.usage import (
    CLAIMS,
    PODS,
    SERVICES,
    kinds_of,
    matches_scopes,
    missing,
    usage_of,
)
from controlplane.kinds.quantity import canonical, parse
from controlplane.kinds.totals import Amounts, shown
from controlplane.plane import Plane

_NONE: Final = (Decimal(0), "0")
# Changes of these can cost more than before; of all others only the number counts.
_GROWING: Final = (PODS, SERVICES, CLAIMS)


class ResourceQuotas:
    """Counts what is written against the quotas of its namespace.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._ledger = Ledger(plane.store)

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Check a creation, or a change that may use more.

        Nothing is awaited between the count and the reservation, so that no two writers can have
        the same room.

        Raises:
            ApiError: a quota would be exceeded, or a pod does not say what a quota counts.
        """
        kind = (resource.strategy.home or resource.group, resource.plural)
        if not resource.namespaced or not _concerns(kind, old, context.subresource):
            return
        namespace = value["metadata"]["namespace"]
        items = self._plane.store.read(f"/core/resourcequotas/{namespace}/").items
        if not items or kind == ("", "events"):
            return
        now = datetime.now(UTC)
        usage = usage_of(kind, value, now)
        before = usage_of(kind, old, now) if old is not None else {}
        for item in items:
            why = self._problem(codec.decode(item), kind, value, old, usage, before, now)
            if why:
                raise forbidden(resource, value["metadata"], why)
        key = resource.key(namespace, value["metadata"]["name"])
        context.claims.append(self._ledger.reserve(kind, key, value, usage))

    def _problem(
        self,
        quota: Object,
        kind: tuple[str, str],
        value: Object,
        old: Object | None,
        usage: Amounts,
        before: Amounts,
        now: datetime,
    ) -> str:
        spec, meta = quota.get("spec", {}), quota["metadata"]
        names = [name for name in spec.get("hard", {}) if kinds_of(name) == kind]
        if not names or not matches_scopes(kind, value, spec):
            return ""
        if kind == PODS:
            lacking = missing(value.get("spec", {}), names)
            if lacking:
                return f"failed quota: {meta['name']}: {lacking}"
        counted = old is not None and matches_scopes(kind, old, spec)
        more = increase(usage, before if counted else {}, names)
        if not more:
            return ""
        used = self._ledger.used(meta["namespace"], spec, now)
        return exceeded(meta["name"], spec["hard"], used, more)


def increase(usage: Amounts, before: Amounts, names: Iterable[str]) -> Amounts:
    """Return how much more is used of what a quota counts, without what is not more (pure)."""
    more: Amounts = {}
    for name in names:
        number, text = usage.get(name, _NONE)
        difference = number - before.get(name, _NONE)[0]
        if difference > 0:
            more[name] = (difference, text)
    return more


def exceeded(name: str, hard: dict[str, str], used: Amounts, more: Amounts) -> str:
    """Say how a quota would be exceeded; "" if it would not (pure).

    Args:
        name: of the quota.
        hard: what it allows.
        used: so far.
        more: would be used.
    """
    over = sorted(one for one in more if used[one][0] + more[one][0] > parse(hard[one]))
    if not over:
        return ""
    listed = [
        ",".join(f"{one}={text}" for one, text in texts)
        for texts in (
            [(one, shown(more[one])) for one in over],
            [(one, shown(used[one])) for one in over],
            [(one, canonical(hard[one])) for one in over],
        )
    ]
    return (
        f"exceeded quota: {name}, requested: {listed[0]}, used: {listed[1]}, limited: {listed[2]}"
    )


def _concerns(kind: tuple[str, str], old: Object | None, subresource: str) -> bool:
    if old is None:
        return not subresource
    if kind == PODS:
        return subresource in ("", "resize")
    return kind in _GROWING and not subresource
