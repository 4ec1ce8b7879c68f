"""The API server on SQLite and on etcd, and a kube-apiserver beside it, as one table.

    sudo .venv/bin/python -m benchmarks.apiserver [--kube-apiserver PROGRAM] [--quick] [-o json]

Each is started as a process, loaded from this one, over TLS. What the disk can do is measured too:
one client cannot create faster than the disk flushes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.apiserver.load import QUICK, Effort, measure
from benchmarks.apiserver.servers import found

RESULTS: Final = Path(__file__).parents[1] / "results"
_FLUSHES: Final = 200
# Figure -> title, target: what it must reach (>) or not exceed (<).
_FIGURES: Final = {
    "creates_1": ("creates of 1 KiB a second, 1 client", ""),
    "creates_32": ("creates of 1 KiB a second, 32 clients", "> 1500"),
    "list": ("list of 5,000 pods, ms", "< 150"),
    "fan_out_p50": ("100 watchers, 200 events a second: p50, ms", ""),
    "fan_out_p99": ("100 watchers, 200 events a second: p99, ms", "< 50"),
    "memory": ("memory at 10,000 objects, MiB", ""),
}


def flushes(directory: Path) -> float:
    """Return how often a second the disk flushes 4 KiB that were appended."""
    times = []
    with open(directory / "flush", "wb", buffering=0) as file:
        for _ in range(_FLUSHES):
            begun = time.monotonic()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - begun)
    return 1 / statistics.median(times)


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.apiserver")
    parser.add_argument("--kube-apiserver", default="", help="its program; otherwise from PATH")
    parser.add_argument("--only", action="append", help="a server; may be given several times")
    parser.add_argument("--quick", action="store_true", help="does it work at all?")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the JSON file")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    chosen = parser.parse_args()
    effort = QUICK if chosen.quick else Effort()
    progress = Console(stderr=True)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="kpb-", dir="/var/tmp") as temporary:
        disk = flushes(Path(temporary))
        for name, start in found(chosen.kube_apiserver).items():
            if chosen.only and name not in chosen.only:
                continue
            progress.print(f"{name} ...")
            directory = Path(temporary) / name
            directory.mkdir(mode=0o700)
            with start(directory) as server:
                figures[name] = asyncio.run(measure(server, effort))
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "python": platform.python_version(),
        "kernel": os.uname().release, "cpus": os.cpu_count(), "load": os.getloadavg(),
        "flushes": round(disk), "effort": asdict(effort), "figures": figures,
    }  # fmt: skip
    chosen.results.mkdir(exist_ok=True)
    file = chosen.results / f"apiserver-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.json"
    file.write_text(json.dumps(result, indent=2))
    if chosen.output == "json":
        print(file.read_text())
        return
    table = Table(title=f"Disk: {disk:.0f} flushes a second; load {os.getloadavg()[0]:.1f}")
    table.add_column("figure")
    for name in figures:
        table.add_column(name, justify="right")
    table.add_column("target", justify="right")
    for key, (title, target) in _FIGURES.items():
        table.add_row(title, *(f"{found[key]:.1f}" for found in figures.values()), target)
    console = Console(width=max(120, Console().width))
    console.print(table)
    if chosen.quick:
        console.print("--quick: fewer objects and events than the titles say; no verdicts")
    console.print(f"Also in {file}")


if __name__ == "__main__":
    main()
