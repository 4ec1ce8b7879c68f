"""Controllers and scheduler with thousands of pods, ours and those of Kubernetes, as one table.

    .venv/bin/python -m benchmarks.controllers [--kubernetes DIRECTORY] [--quick] [-o json]

Each works as processes of its own against an embedded API server of its own, one after the other;
nodes without machines make every pod that is bound to them run at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.controllers.load import QUICK, Effort, measure
from benchmarks.controllers.subjects import found

RESULTS: Final = Path(__file__).parents[1] / "results"
# Figure -> title, target: what it must not exceed.
_FIGURES: Final = {
    "bound": ("Deployment of 1,000 created until all are bound, s", "< 15"),
    "available": ("... until all are available, s", ""),
    "bound_cpu_controllers": ("... CPU of the controllers, s", ""),
    "bound_cpu_scheduler": ("... CPU of the scheduler, s", ""),
    "bound_cpu_server": ("... CPU of the API server, s", ""),
    "rolled": ("rolling update of 500, s", ""),
    "rest_controllers": ("5,000 pods: CPU of the controllers at rest, %", "< 1"),
    "rest_scheduler": ("... CPU of the scheduler at rest, %", ""),
    "memory_controllers": ("... PSS of the controllers, MiB", "< 300"),
    "memory_scheduler": ("... PSS of the scheduler, MiB", ""),
}


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controllers")
    parser.add_argument("--kubernetes", default="", help="directory of its programs; else PATH")
    parser.add_argument("--only", action="append", help="a subject; may be given several times")
    parser.add_argument("--quick", action="store_true", help="does it work at all?")
    parser.add_argument("--pods", type=int, default=Effort.pods, help="at rest")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the JSON file")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    chosen = parser.parse_args()
    # So that what was started ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    effort = QUICK if chosen.quick else Effort(pods=chosen.pods)
    progress = Console(stderr=True)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="kpb-", dir="/var/tmp") as temporary:
        for name, start in found(chosen.kubernetes).items():
            if chosen.only and name not in chosen.only:
                continue
            progress.print(f"{name} ...")
            directory = Path(temporary) / name
            directory.mkdir(mode=0o700)
            figures[name] = asyncio.run(measure(start, directory, effort))
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "python": platform.python_version(),
        "kernel": os.uname().release, "cpus": os.cpu_count(), "load": os.getloadavg(),
        "effort": asdict(effort), "figures": figures,
    }  # fmt: skip
    chosen.results.mkdir(exist_ok=True)
    file = chosen.results / f"controllers-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.json"
    file.write_text(json.dumps(result, indent=2))
    if chosen.output == "json":
        print(file.read_text())
        return
    console = Console(width=max(120, Console().width))
    console.print(_table(figures))
    if chosen.quick:
        console.print("--quick: fewer pods than the titles say; no verdicts")
    console.print(f"Also in {file}")


def _table(figures: dict[str, dict[str, float]]) -> Table:
    table = Table(title=f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
    table.add_column("figure")
    for name in figures:
        table.add_column(name, justify="right")
    both = list(figures.values())
    if len(both) == 2:
        table.add_column("ratio", justify="right")
    table.add_column("target", justify="right")
    for key, (title, target) in _FIGURES.items():
        cells = [f"{one[key]:.1f}" for one in both]
        if len(both) == 2:
            cells.append(f"{both[0][key] / both[1][key]:.2f}" if both[1][key] else "-")
        table.add_row(title, *cells, target)
    return table


if __name__ == "__main__":
    main()
