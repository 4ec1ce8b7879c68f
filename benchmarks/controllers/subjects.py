"""What is measured: our controllers and scheduler, and those of Kubernetes, as processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

# Nodes without machines renew no lease: what looks after nodes would empty them.
CONTROLLERS: Final = "*,-node-lifecycle-controller,-taint-eviction-controller"
# The Go programs ask 20 and 50 times a second by default, ours as often as the server answers.
_UNLIMITED: Final = ("--kube-api-qps=5000", "--kube-api-burst=5000")
_STOP_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Running:
    """The processes of one subject.

    Attributes:
        controllers, scheduler: their pids.
    """

    controllers: int
    scheduler: int

    def check(self) -> None:
        """Raise SystemExit if one of them has ended."""
        for pid in (self.controllers, self.scheduler):
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                raise SystemExit(f"the process {pid}, which is measured, has ended")

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds that each has used."""
        return cpu_of(self.controllers), cpu_of(self.scheduler)


Start = Callable[[Path, Path], AbstractContextManager[Running]]


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def pss_of(pid: int) -> float:
    """Return the proportional set size of a process, in MiB."""
    return float(psutil.Process(pid).memory_full_info().pss) / (1 << 20)


@contextmanager
def process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program within the block."""
    with open(log, "wb") as file:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield running
        if running.poll() is not None:
            raise SystemExit(f"{command[0]} ended: {log.read_text(errors='replace')[-2000:]}")
    finally:
        running.terminate()
        try:
            running.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _both(
    kubeconfig: Path, directory: Path, controllers: list[str], scheduler: list[str]
) -> AbstractContextManager[Running]:
    @contextmanager
    def run() -> Iterator[Running]:
        common = [f"--kubeconfig={kubeconfig}"]
        with ExitStack() as stack:
            pids = [
                stack.enter_context(process(directory / f"{name}.log", *command, *common)).pid
                for name, command in (("controllers", controllers), ("scheduler", scheduler))
            ]
            yield Running(*pids)

    return run()


def ours(kubeconfig: Path, directory: Path) -> AbstractContextManager[Running]:
    """Run ours, as ``kubeletpy controllers`` and ``kubeletpy scheduler`` do."""
    python = [sys.executable, "-P", "-m"]
    alone = ["--healthz-port=-1", "--no-leader-elect"]
    return _both(
        kubeconfig, directory,
        [*python, "kubeletpy", "controllers", f"--controllers={CONTROLLERS}", *alone],
        [*python, "kubeletpy", "scheduler", *alone],
    )  # fmt: skip


def kubernetes(manager: str, scheduler: str) -> Start:
    """Return how to run those of Kubernetes."""

    def start(kubeconfig: Path, directory: Path) -> AbstractContextManager[Running]:
        alone = ["--secure-port=0", "--leader-elect=false", *_UNLIMITED]
        return _both(
            kubeconfig, directory,
            [manager, f"--controllers={CONTROLLERS}", *alone],
            [scheduler, *alone],
        )  # fmt: skip

    return start


def found(directory: str) -> dict[str, Start]:
    """Return what can be measured here, by name.

    Args:
        directory: of the programs of Kubernetes; "": those in PATH, if any.
    """
    subjects: dict[str, Start] = {"kubeletpy": ours}
    paths = [
        shutil.which(name, path=directory or None)
        for name in ("kube-controller-manager", "kube-scheduler")
    ]
    if all(paths):
        subjects["Kubernetes"] = kubernetes(str(paths[0]), str(paths[1]))
    elif directory:
        raise SystemExit(f"{directory} has no kube-controller-manager and kube-scheduler")
    return subjects
