"""The kube-proxy beside a peer's, on the same synthetic clusters.

    sudo .venv/bin/python -m benchmarks.proxy [--services 1000,5000,10000] [--mode nftables]
        [--peer PROGRAM] [--quick] [-o json]

Both are clients of the same small API server, in a laboratory of network namespaces
(``tests/support/proxylab``). A time ends when a connection gets through to an endpoint that is new,
not when a proxy says that it is done. ``--services 44000 --mode nftables`` is the largest.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.proxy.clusters import Cluster
from benchmarks.proxy.subject import QUICK, Effort, measure
from benchmarks.report import OURS
from tests.support.proxylab.proxies import Settings

RESULTS: Final = Path(__file__).parents[1] / "results"
PEER: Final = "peer"
MODES: Final = ("iptables", "nftables")
# Figure -> title and unit.
FIGURES: Final[dict[str, str]] = {
    "first_sync": "first sync, from the start of the process, s",
    "first_sync_cpu": "... CPU, s",
    "endpoint": "one endpoint changed, ms",
    "endpoint_cpu": "... CPU, ms",
    "added": "one Service added, ms",
    "removed": "one Service removed, ms",
    "restart": "restarted, with a change meanwhile, s",
    "restart_cpu": "... CPU, s",
    "peak_memory": "memory at its peak, PSS with children, MiB",
    "memory": "memory after the first sync, MiB",
    "latency_first": "first packet, first Service, us",
    "latency_last": "first packet, last Service, us",
    "rate_first": "new connections a second, first Service",
    "rate_last": "new connections a second, last Service",
}
# (mode, Services) -> figure -> what it must not exceed.
TARGETS: Final[dict[tuple[str, int], dict[str, float]]] = {
    ("iptables", 5000): {"first_sync": 4, "endpoint": 150, "peak_memory": 120},
    ("nftables", 5000): {"first_sync": 2.5, "endpoint": 20, "peak_memory": 120},
    ("nftables", 44000): {"first_sync": 60},
}
Results = dict[str, dict[str, list[float]]]


def rows(mode: str, size: int, results: Results, *, judged: bool) -> dict[str, dict[str, Any]]:
    """Return for each figure the medians, the ratio of ours to the peer's, target and verdict."""
    made: dict[str, dict[str, Any]] = {}
    for figure, title in FIGURES.items():
        medians = {
            name: round(statistics.median(values[figure]), 3)
            for name, values in results.items()
            if figure in values
        }
        row: dict[str, Any] = {"title": title, **medians, "ratio": None, "met": None}
        if medians.get(PEER) and OURS in medians:
            row["ratio"] = round(medians[OURS] / medians[PEER], 3)
        row["target"] = TARGETS.get((mode, size), {}).get(figure)
        if judged and row["target"] is not None and OURS in medians:
            row["met"] = medians[OURS] <= row["target"]
        made[figure] = row
    return made


def table(title: str, found: dict[str, dict[str, Any]]) -> Table:
    """Return the table for a person."""
    made = Table(title=title, title_justify="left")
    made.add_column("median")
    for column in (OURS, PEER, "ratio", "target", ""):
        made.add_column(column, justify="right")
    for row in found.values():
        made.add_row(
            row["title"],
            *(f"{row[name]:.1f}" if name in row else "-" for name in (OURS, PEER)),
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            "" if row["target"] is None else f"<= {row['target']:g}",
            {True: "met", False: "[bold]MISSED[/bold]", None: ""}[row["met"]],
        )
    return made


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy")
    parser.add_argument("--services", default="1000,5000,10000", help="sizes of clusters")
    parser.add_argument("--mode", default=",".join(MODES), help="modes")
    parser.add_argument("--tools", default="nft", choices=["nft", "legacy"], help="of iptables")
    parser.add_argument("--peer", default="", help="program of another kube-proxy")
    parser.add_argument("--only", choices=[OURS, PEER], help="one of the two alone")
    parser.add_argument("--rounds", type=int, help="changes of each kind (default: 10)")
    parser.add_argument("--quick", action="store_true", help="does it work at all?")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the JSON file")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    chosen = parser.parse_args()
    # Whoever is ended ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    effort = QUICK if chosen.quick else Effort()
    if chosen.rounds:
        effort = dataclasses.replace(effort, rounds=chosen.rounds)
    subjects = {OURS: "", **({PEER: chosen.peer} if chosen.peer else {})}
    subjects = {name: program for name, program in subjects.items() if chosen.only in (None, name)}
    report: dict[str, Any] = {
        "machine": {"kernel": platform.release(), "python": platform.python_version()},
        "effort": dataclasses.asdict(effort),
        "results": [],
    }
    for mode in chosen.mode.split(","):
        for size in map(int, chosen.services.split(",")):
            results: Results = {}
            for name, program in subjects.items():
                with tempfile.TemporaryDirectory(prefix="kpb-") as directory:
                    settings = Settings(mode, chosen.tools, peer=program)
                    title = f"{name}, {mode}, {size} Services"
                    figures = measure(title, Path(directory), settings, Cluster(size), effort)
                results[name] = figures.values
            found = rows(mode, size, results, judged=not chosen.quick)
            report["results"].append({"mode": mode, "services": size, "figures": found})
            if chosen.output == "table":
                Console(width=130).print(table(f"{mode}, {size} Services", found))
    chosen.results.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    (chosen.results / f"proxy-{stamp}.json").write_text(json.dumps(report, indent=1))
    if chosen.output == "json":
        print(json.dumps(report))


if __name__ == "__main__":
    main()
