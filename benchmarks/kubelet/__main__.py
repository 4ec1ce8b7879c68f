"""The kubelet beside a peer's: pods created in an API server, seen Ready by a watch.

    sudo .venv/bin/python -m benchmarks.kubelet [--kubelet PROGRAM] [--quick] [-o json]

Ours runs on our runtime. ``--kubelet`` adds another kubelet on containerd (and, with
``--cross``, each kubelet on the other's runtime). Each has an API server of ours to itself; pods
name their node, so no scheduler's time is in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import secrets
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import images, peers
from benchmarks.kubelet import load
from benchmarks.kubelet.nodes import Node, ready, running_node
from benchmarks.machine import isolate
from benchmarks.report import OURS, PEER
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.cgroups import detect
from tests.support.registry import DockerRegistry

RESULTS: Final = Path(__file__).parents[1] / "results"
# Figure -> title, what it must not exceed (None: no target).
FIGURES: Final[dict[str, tuple[str, float | None]]] = {
    "ready": ("a pod created is Ready, ms", 100),
    "gone": ("a pod deleted is gone, ms", None),
    "all_ready": ("100 pods created at once are Ready, s", 8),
    "all_gone": ("100 pods deleted at once are gone, s", 12),
    "idle_kubelet": ("100 idle pods: kubelet, % of a core", None),
    "idle_runtime": ("100 idle pods: runtime, % of a core", None),
    "idle_together": ("100 idle pods: both, % of a core", 4),
    "memory_kubelet": ("100 idle pods: PSS of the kubelet, MiB", None),
    "memory_runtime": ("100 idle pods: PSS of the runtime, MiB", None),
    "memory_together": ("100 idle pods: PSS of both, MiB", 200),
    "probed_node": ("100 pods exec-probed a second: whole node, % of a core", 25),
}


async def measure(node: Node, image: str, effort: load.Effort) -> load.Figures:
    """Measure one node."""
    figures = load.Figures()
    async with ApiClient(node.access) as client:
        await ready(client)
    await load.one_by_one(node, image, effort, figures)
    await load.many(node, image, effort, figures)
    await load.probed(node, image, effort, figures)
    for what in ("idle", "memory"):
        both = [figures.values[f"{what}_{part}"][0] for part in ("kubelet", "runtime")]
        figures.add(f"{what}_together", sum(both))
    return figures


def nodes(chosen: argparse.Namespace) -> dict[str, tuple[peers.Runtime, str]]:
    """Return what is to be measured: name -> runtime and program of the kubelet."""
    found: dict[str, tuple[peers.Runtime, str]] = {OURS: (peers.ours, "")}
    runtimes = peers.available()
    if chosen.kubelet:
        if PEER not in runtimes:
            raise SystemExit("--kubelet: containerd, runc and the CNI plugins are not installed")
        found["Go kubelet, containerd"] = (peers.containerd, chosen.kubelet)
    if chosen.cross and PEER in runtimes:
        found["ours, containerd"] = (peers.containerd, "")
        if chosen.kubelet:
            found["Go kubelet, our runtime"] = (peers.ours, chosen.kubelet)
    return {name: each for name, each in found.items() if not chosen.only or name in chosen.only}


def table(results: dict[str, dict[str, list[float]]], *, judged: bool) -> Table:
    """Return what was measured, medians, ours judged by the targets."""
    made = Table(title="The kubelet; medians", title_justify="left")
    made.add_column("")
    for name in (*results, "target", ""):
        made.add_column(name, justify="right")
    for figure, (title, target) in FIGURES.items():
        cells = [
            f"{statistics.median(values[figure]):.1f}" if figure in values else "-"
            for values in results.values()
        ]
        verdict = ""
        ours = results.get(OURS, {}).get(figure)
        if judged and target is not None and ours:
            met = round(statistics.median(ours), 1) <= target
            verdict = "met" if met else "[bold]MISSED[/bold]"
        made.add_row(title, *cells, "" if target is None else f"<= {target:g}", verdict)
    return made


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kubelet")
    parser.add_argument("--kubelet", default="", help="program of a peer's kubelet, on containerd")
    parser.add_argument("--cross", action="store_true", help="each kubelet on the other's runtime")
    parser.add_argument("--only", action="append", help="a column; may be given several times")
    parser.add_argument("--rounds", type=int, help="of one pod (default: 30)")
    parser.add_argument("--pods", type=int, help="at once (default: 100)")
    parser.add_argument("--quick", action="store_true", help="does it work at all?")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the JSON file")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    chosen = parser.parse_args()
    effort = load.QUICK if chosen.quick else load.Effort()
    changes = {name: getattr(chosen, name) for name in ("rounds", "pods") if getattr(chosen, name)}
    effort = load.Effort(**{**asdict(effort), **changes})
    wanted = nodes(chosen)
    isolate()
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="kpb-") as name, DockerRegistry(Path(name)) as registry:
        images.push_all(registry.host, with_large=None)
        main_image, pause = (f"{registry.host}/bench/{one}:1" for one in ("main", "pause"))
        for number, (title, (start, program)) in enumerate(wanted.items()):
            cgroup = f"/kpbench-{secrets.token_hex(3)}"
            try:
                with running_node(
                    title, start, program, Path(name) / str(number), cgroup, pause
                ) as node:
                    results[title] = asyncio.run(measure(node, main_image, effort)).values
            finally:
                detect().cgroup(cgroup).remove()
    report: dict[str, Any] = {
        "machine": {"kernel": platform.release(), "python": platform.python_version()},
        "effort": asdict(effort),
        "results": results,
    }
    chosen.results.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    (chosen.results / f"kubelet-{stamp}.json").write_text(json.dumps(report, indent=1))
    if chosen.output == "json":
        print(json.dumps(report))
    else:
        Console(width=130).print(table(results, judged=not chosen.quick))


if __name__ == "__main__":
    main()
