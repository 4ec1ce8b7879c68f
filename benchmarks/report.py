"""What was measured, as one table against the targets, and as JSON. Pure functions of numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table

OURS: Final = "kubeletpy"
PEER: Final = "containerd"


@dataclass(frozen=True)
class Target:
    """What a figure is called, its unit, and the ratio to the peer's that it must not exceed.

    Attributes:
        title: for people.
        unit: ``ms``, ``s`` or ``MiB``.
        ratio: None where the issue names none.
    """

    title: str
    unit: str
    ratio: float | None = None


FIGURES: Final[dict[str, Target]] = {
    "sandbox": Target("RunPodSandbox", "ms"),
    "create": Target("CreateContainer", "ms"),
    "start": Target("StartContainer", "ms"),
    "together": Target("the three together", "ms", 0.25),
    "exec": Target("ExecSync", "ms", 0.2),
    "stop": Target("StopContainer, ends at SIGTERM", "ms", 0.5),
    "remove": Target("StopPodSandbox + RemovePodSandbox", "ms", 0.25),
    "pull": Target("pull + unpack, 150 MB, 10,000 files", "s", 1.0),
    "pods": Target("100 pods, 8 at a time", "s", 0.35),
    "pod_memory": Target("PSS of an idle pod", "MiB", 0.5),
    "daemon_memory": Target("PSS of the idle daemon", "MiB", 1.0),
    "probes": Target("CPU of 600 exec probes in a minute", "s", 0.25),
}
"""Every figure, in the order of the table."""


@dataclass
class Samples:
    """What the rounds gave: figure -> runtime -> values, in the figure's unit."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, figure: str, runtime: str, value: float) -> None:
        """Note one value."""
        self.values.setdefault(figure, {}).setdefault(runtime, []).append(value)


def p90(values: Sequence[float]) -> float:
    """Return the 90th percentile: the least value that nine of ten do not exceed."""
    return sorted(values)[max(0, -(-len(values) * 9 // 10) - 1)]


def summary(samples: Samples, *, judged: bool = True) -> dict[str, dict[str, Any]]:
    """Return, for each figure, medians, percentiles and rounds by runtime, ratio and verdict.

    Args:
        samples: what was measured.
        judged: whether it was enough work for a verdict on the targets.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, target in FIGURES.items():
        found = samples.values.get(name)
        if not found:
            continue
        row: dict[str, Any] = {"title": target.title, "unit": target.unit}
        for runtime, values in found.items():
            row[runtime] = {
                "median": round(statistics.median(values), 3),
                "p90": round(p90(values), 3),
                "rounds": len(values),
            }
        row["target"] = target.ratio
        row["ratio"] = row["met"] = None
        if OURS in found and PEER in found:
            ratio = statistics.median(found[OURS]) / statistics.median(found[PEER])
            row["ratio"] = round(ratio, 3)
            # Judged by what is shown, so that no one sees a 0.25 that is said to exceed 0.25.
            if judged and target.ratio is not None:
                row["met"] = round(ratio, 2) <= target.ratio
        rows[name] = row
    return rows


def missed(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the titles of the figures whose target was missed."""
    return [str(row["title"]) for row in rows.values() if row["met"] is False]


def table(rows: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """Return the table for a person; a missed target is marked in words."""
    result = Table(title=title, title_justify="left")
    result.add_column("median (90th percentile)")
    for column in (OURS, PEER, "rounds", "ratio", "target", ""):
        result.add_column(column, justify="right")
    for row in rows.values():
        rounds = max(row[name]["rounds"] for name in (OURS, PEER) if name in row)
        result.add_row(
            f"{row['title']}, {row['unit']}",
            *(_cell(row, name) for name in (OURS, PEER)),
            str(rounds),
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            "" if row["target"] is None else f"<= {row['target']:.2f}",
            {True: "met", False: "[bold]MISSED[/bold]", None: ""}[row["met"]],
        )
    return result


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return "-"
    digits = 2 if row["unit"] != "ms" else 1
    return f"{row[name]['median']:.{digits}f} ({row[name]['p90']:.{digits}f})"
