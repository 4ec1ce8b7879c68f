"""What is measured, one module each; every one adds its figures to the samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import Peer, Runtime
from benchmarks.report import Samples


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        rounds: of a pod's life.
        pulls: rounds of pulling the large image.
        bytes: of the large image.
        files: in it.
        bursts: rounds of many pods at once.
        pods: at once.
        idle_pods: over which memory is averaged.
        settle: seconds after which a runtime counts as idle.
        probe_seconds: of ten probes each.
    """

    rounds: int = 30
    pulls: int = 10
    bytes: int = 150_000_000
    files: int = 10_000
    bursts: int = 3
    pods: int = 100
    idle_pods: int = 20
    settle: float = 20.0
    probe_seconds: int = 60


QUICK = Effort(
    rounds=2, pulls=1, bytes=4_000_000, files=300, bursts=1, pods=6, idle_pods=2, settle=1.0,
    probe_seconds=2,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What a part works with.

    Attributes:
        peers: runtimes that serve, ours first.
        runtimes: to start more of them, by name.
        registry: ``host:port`` with the images bench/main, bench/pause, bench/large.
        directory: for whatever a part needs.
        cgroup: above those of all peers.
        effort: how much is done.
        samples: where figures go.
    """

    peers: list[Peer]
    runtimes: dict[str, Runtime]
    registry: str
    directory: Path
    cgroup: str
    effort: Effort
    samples: Samples

    @property
    def image(self) -> str:
        """What pods run."""
        return f"{self.registry}/bench/main:1"
