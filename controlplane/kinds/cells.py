"""Cells that tables of many kinds have (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from controlplane.api.resource import Column, Object

NONE: Final = "<none>"
UNSET: Final = "<unset>"

CONTAINERS: Final = (
    Column("Containers", priority=1, description="Names of the template's containers."),
    Column("Images", priority=1, description="Images of the template's containers."),
)
"""What ``-o wide`` tells of a pod template; :func:`containers` makes the cells."""

SELECTOR: Final = Column("Selector", priority=1, description="Which pods belong to it.")


def containers(pod_spec: Object | None) -> list[str]:
    """Return the cells of :data:`CONTAINERS`."""
    found = (pod_spec or {}).get("containers", ())
    return [",".join(one.get(key, "") for one in found) for key in ("name", "image")]


def labels(value: Mapping[str, str] | None) -> str:
    """Return labels, or a selector that has only labels."""
    return ",".join(f"{key}={item}" for key, item in sorted((value or {}).items())) or NONE


def selector(value: Object | None) -> str:
    """Return a meta/v1 LabelSelector as people write it; "" for none."""
    parts = [(key, f"{key}={item}") for key, item in ((value or {}).get("matchLabels", {})).items()]
    for one in (value or {}).get("matchExpressions", ()):
        key, listed = one.get("key", ""), ",".join(sorted(one.get("values", ())))
        text = {
            "In": f"{key} in ({listed})",
            "NotIn": f"{key} notin ({listed})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }.get(one.get("operator", ""), "<error>")
        parts.append((key, text))
    return ",".join(text for _, text in sorted(parts, key=lambda part: part[0]))


def since(moment: str | None, *, absent: str = "<unknown>", until: str | None = None) -> str:
    """Return the time that has passed since a moment, up to now or to ``until``."""
    if not moment:
        return absent
    end = _read(until) if until else datetime.now(UTC)
    return duration((end - _read(moment)).total_seconds())


def age_of(moment: str) -> str:
    """Return the time since ``moment`` as kubectl writes it: ``5s``, ``3m20s``, ``2d``."""
    try:
        return since(moment)
    except ValueError:
        return "<unknown>"


def optional(value: Any, absent: str = UNSET) -> Any:
    """Return a value, or a word for an absent one."""
    return absent if value is None else value


def _read(moment: str) -> datetime:
    return datetime.fromisoformat(moment.replace("Z", "+00:00"))


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that matter (apimachinery, HumanDuration)."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(total, 0)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"
