"""From ``kubectl create deployment`` to pods that are Ready, on a real node of ``kubeletpy up``.

    sudo .venv/bin/python -m benchmarks.controllers.real [--replicas 50] [--rounds 3]

``up`` runs in a network namespace of its own; each round makes a Deployment and removes it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import statistics
import time
from pathlib import Path

from tests.root.e2e.running import STAYS, Directories, Up, kubectl, start

_IMAGE = "127.0.0.1:5000/demo/web:1"
_TARGET = 6.0
"""Seconds for 50 replicas."""


async def _round(up: Up, config: Path, replicas: int) -> float:
    begun = time.monotonic()
    await kubectl(
        up, config, "create", "deployment", "many", f"--image={_IMAGE}", f"--replicas={replicas}",
        "--", "sleep", "3600",
    )  # fmt: skip
    await kubectl(
        up, config, "wait", "deployment/many", "--timeout=120s",
        f"--for=jsonpath={{.status.readyReplicas}}={replicas}",
    )  # fmt: skip
    seconds = time.monotonic() - begun
    await kubectl(up, config, "delete", "deployment", "many", "--wait=false")
    await kubectl(
        up, config, "delete", "pods", "-l", "app=many", "--grace-period=1", "--wait=false"
    )
    # The next round is to find an idle node.
    await kubectl(up, config, "wait", "pods", "-l", "app=many", "--for=delete", "--timeout=120s")
    return seconds


async def measure(replicas: int, rounds: int) -> list[float]:
    """Return the seconds of each round."""
    name = f"kpb-{secrets.token_hex(3)}"
    directories = Directories(Path("/var/lib") / name, Path("/run") / name)
    up = await start(directories)
    try:
        await up.until(STAYS)
        await up.until("examples/tour")
        config = directories.run / "kubeconfig"
        return [await _round(up, config, replicas) for _ in range(rounds)]
    finally:
        up.process.send_signal(signal.SIGINT)
        await up.end()
        shutil.rmtree(directories.data, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controllers.real")
    parser.add_argument("--replicas", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    seconds = asyncio.run(measure(chosen.replicas, chosen.rounds))
    print(
        f"{chosen.replicas} replicas to all Ready: median {statistics.median(seconds):.2f} s "
        f"({', '.join(f'{one:.2f}' for one in seconds)}); target {_TARGET:g} s for 50"
    )


if __name__ == "__main__":
    main()
