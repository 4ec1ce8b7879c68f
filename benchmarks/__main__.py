"""The benchmark: our runtime beside containerd with runc, as one table against the targets.

    sudo .venv/bin/python -m benchmarks [--only PART ...] [--rounds N] [--quick] [-o json]

Everything runs in a network and mount namespace, in directories and cgroups of its own; the
runtimes take turns. The table is also written as JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import images, report
from benchmarks.machine import isolate, versions
from benchmarks.parts import QUICK, Bench, Effort, burst, lifecycle, memory, probes, pull
from benchmarks.peers import CGROUPFS, SYSTEMD, available
from kubeletpy.cri.client import CriClient
from kubeletpy_common.cgroups import detect
from tests.support.registry import DockerRegistry

_WIDTH: Final = 120
RESULTS: Final = Path(__file__).parent / "results"
PARTS: Final[dict[str, Callable[[Bench], Awaitable[None]]]] = {
    "memory": memory.measure,
    "lifecycle": lifecycle.measure,
    "probes": probes.measure,
    "burst": burst.measure,
    "pull": pull.measure,
}
"""In this order: memory is that of daemons that have done nothing yet."""
_OF_TIME: Final = ("lifecycle", "burst")
"""Parts that look into no cgroup: with systemd, pods are elsewhere than their runtime."""


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--only", action="append", choices=list(PARTS), help="a part; may be given several times"
    )
    parser.add_argument("--rounds", type=int, help="of a pod's life (default: 30)")
    parser.add_argument("--pulls", type=int, help="of the large image (default: 10)")
    parser.add_argument(
        "--cgroup-driver", choices=[CGROUPFS, SYSTEMD], default=CGROUPFS,
        help="of both runtimes (default: %(default)s); systemd: figures of time alone",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work at all?")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the JSON file")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    chosen = parser.parse_args(arguments)
    for name in chosen.only or ():
        if name not in _possible(chosen.cgroup_driver):
            parser.error(f"--only {name} looks into the cgroup that a runtime and its pods are in; "
                         "with the driver systemd they are not in one")  # fmt: skip
    return chosen


def effort_of(chosen: argparse.Namespace) -> Effort:
    """Return how much is to be done."""
    effort = QUICK if chosen.quick else Effort()
    if chosen.rounds is not None:
        effort = replace(effort, rounds=max(1, chosen.rounds))
    return effort if chosen.pulls is None else replace(effort, pulls=max(1, chosen.pulls))


def parts_of(chosen: argparse.Namespace) -> list[str]:
    """Return the names of the parts to run (pure)."""
    wanted = chosen.only or _possible(chosen.cgroup_driver)
    return [name for name in PARTS if name in wanted]


def _possible(driver: str) -> Collection[str]:
    return PARTS if driver == CGROUPFS else _OF_TIME


@contextmanager
def prepared(effort: Effort, parts: list[str], driver: str) -> Iterator[Bench]:
    """Start what is to be measured, and leave nothing."""
    directory = Path(tempfile.mkdtemp(prefix="kpb-"))
    cgroup = f"/kpbench-{secrets.token_hex(3)}"
    isolate()
    try:
        with ExitStack() as stack:
            registry = stack.enter_context(DockerRegistry(directory))
            size = (effort.bytes, effort.files) if "pull" in parts else None
            images.push_all(registry.host, with_large=size)
            pause = f"{registry.host}/bench/pause:1"
            runtimes = available(driver)
            peers = [
                stack.enter_context(start(directory / name, f"{cgroup}/{name}", pause))
                for name, start in runtimes.items()
            ]
            yield Bench(peers, runtimes, registry.host, directory, cgroup, effort, report.Samples())
    finally:
        detect().cgroup(cgroup).kill()
        detect().cgroup(cgroup).remove()
        shutil.rmtree(directory)


async def measure(bench: Bench, parts: list[str], say: Callable[[str], None]) -> None:
    """Run the parts that were asked for, in their order."""
    for peer in bench.peers:
        async with CriClient(peer.endpoint) as client:
            await client.pull_image(bench.image)
    for name in parts:
        begun = time.monotonic()
        say(f"{name} ...")
        await PARTS[name](bench)
        say(f"{name}: {time.monotonic() - begun:.0f} s")


def main() -> None:
    """Measure, print, and keep the result."""
    chosen = options()
    if os.geteuid() != 0:
        raise SystemExit("the benchmarks start containers: run them as root")
    effort, progress = effort_of(chosen), Console(stderr=True)
    parts = parts_of(chosen)
    with prepared(effort, parts, chosen.cgroup_driver) as bench:
        asyncio.run(measure(bench, parts, progress.print))
        rows = report.summary(bench.samples, judged=not chosen.quick)
        machine = versions() | {"driver": chosen.cgroup_driver}
    result: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": machine,
        "effort": asdict(effort), "figures": rows, "samples": bench.samples.values,
    }  # fmt: skip
    chosen.results.mkdir(exist_ok=True)
    file = chosen.results / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.json"
    file.write_text(json.dumps(result, indent=2))
    if chosen.output == "json":
        print(file.read_text())
        return
    # As wide as the table is, in whatever it is shown or kept.
    console = Console(width=max(_WIDTH, Console().width))
    title = ", ".join(f"{key} {value}" for key, value in machine.items())
    console.print(report.table(rows, title))
    if chosen.quick:
        console.print("--quick: smaller pods, images and spans than the titles say; no verdicts")
    if len(bench.peers) == 1:
        console.print("containerd, runc and containernetworking-plugins are not all installed: "
                      "there is nothing to compare with")  # fmt: skip
    elif late := report.missed(rows):
        console.print(f"Missed: {'; '.join(late)}.")
    console.print(f"Also in {file}")


if __name__ == "__main__":
    main()
