from __future__ import annotations

import asyncio

import grpc
import pytest

from kubeletpy.api.container import Container
from kubeletpy.cri.client import CriError
from kubeletpy.events import Recorder
from kubeletpy.images.pulls import Images
from kubeletpy.pods.state import ImagePhase
from kubeletpy_proto import cri_pb2
from tests.unit.kubeletpy.pods.build import pod

SANDBOX = cri_pb2.PodSandboxConfig()


class Registry:
    """Plays the runtime's image service, from plain data."""

    def __init__(self, present: bool = False, failure: CriError | None = None) -> None:
        self.present, self.failure = present, failure
        self.pulls = 0
        self.at_once = 0
        self.most_at_once = 0
        self.busy = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    async def image_status(self, image: str) -> cri_pb2.Image | None:
        return cri_pb2.Image(id=f"sha256:{image}", size=7) if self.present else None

    async def pull_image(
        self,
        image: str,
        *,
        auth: cri_pb2.AuthConfig | None = None,
        sandbox_config: cri_pb2.PodSandboxConfig | None = None,
    ) -> str:
        self.pulls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with self.busy:
            self.busy.notify_all()
        try:
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            self.present = True
            return f"{image}@sha256:1"
        finally:
            self.at_once -= 1

    async def wait_for_pulls(self, number: int) -> None:
        async with asyncio.timeout(30), self.busy:
            await self.busy.wait_for(lambda: self.at_once >= number)


def asked(policy: str) -> Container:
    return Container(name="a", image="web:1", image_pull_policy=policy)


@pytest.mark.parametrize(
    ("policy", "present", "pulls", "reference"),
    [
        ("IfNotPresent", True, 0, "sha256:web:1"),
        ("IfNotPresent", False, 1, "web:1@sha256:1"),
        ("Always", True, 1, "web:1@sha256:1"),
        ("Never", True, 0, "sha256:web:1"),
    ],
)
async def test_policy(policy: str, present: bool, pulls: int, reference: str) -> None:
    registry, recorder = Registry(present), Recorder("n")
    state = await Images(registry, recorder).ensure(pod("a"), asked(policy), SANDBOX)
    assert (state.phase, state.ref, registry.pulls) == (ImagePhase.PRESENT, reference, pulls)
    reasons = [event.reason for event in recorder.events()]
    assert reasons == (["Pulling", "Pulled"] if pulls else ["Pulled"])


async def test_never_without_image() -> None:
    registry, recorder = Registry(), Recorder("n")
    state = await Images(registry, recorder).ensure(pod("a"), asked("Never"), SANDBOX)
    assert (state.phase, state.reason) == (ImagePhase.FAILED, "ErrImageNeverPull")
    assert 'Container image "web:1" is not present' in state.message
    assert registry.pulls == 0


async def test_failures_back_off_and_keep_the_cause() -> None:
    error = CriError("PullImage", grpc.StatusCode.NOT_FOUND, "manifest unknown")
    now = 100.0
    registry, recorder = Registry(failure=error), Recorder("n")
    images = Images(registry, recorder, clock=lambda: now)
    delays = []
    for _ in range(7):
        state = await images.ensure(pod("a"), asked("IfNotPresent"), SANDBOX)
        assert (state.reason, state.message) == ("ErrImagePull", "manifest unknown")
        delays.append(state.retry_at - now)
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    told = {(event.reason, event.message): event.count for event in recorder.events()}
    assert told[("Failed", 'Failed to pull image "web:1": manifest unknown')] == 7
    assert told[("Failed", "Error: ErrImagePull")] == 7
    registry.failure = None
    assert (await images.ensure(pod("a"), asked("Always"), SANDBOX)).phase is ImagePhase.PRESENT
    registry.failure = error
    again = await images.ensure(pod("a"), asked("Always"), SANDBOX)
    assert again.retry_at - now == 10


async def test_runtime_that_is_away_is_named() -> None:
    error = CriError("PullImage", grpc.StatusCode.UNAVAILABLE, "connection refused")
    state = await Images(Registry(failure=error), Recorder("n")).ensure(
        pod("a"), asked("Always"), SANDBOX
    )
    assert state.message == "CRI PullImage: UNAVAILABLE: connection refused"


@pytest.mark.parametrize(("parallel", "most"), [(1, 1), (3, 3)])
async def test_pulls_at_once_are_bounded(parallel: int, most: int) -> None:
    registry = Registry()
    registry.gate.clear()
    images = Images(registry, Recorder("n"), parallel=parallel)
    tasks = [
        asyncio.ensure_future(images.ensure(pod("a"), asked("Always"), SANDBOX)) for _ in range(6)
    ]
    await registry.wait_for_pulls(most)
    registry.gate.set()
    await asyncio.gather(*tasks)
    assert (registry.pulls, registry.most_at_once) == (6, most)


async def test_cancelled_pull_gives_its_slot_back() -> None:
    registry = Registry()
    registry.gate.clear()
    images = Images(registry, Recorder("n"))
    hanging = asyncio.ensure_future(images.ensure(pod("a"), asked("Always"), SANDBOX))
    await registry.wait_for_pulls(1)
    hanging.cancel()
    await asyncio.wait((hanging,))
    registry.gate.set()
    async with asyncio.timeout(30):
        state = await images.ensure(pod("a"), asked("Always"), SANDBOX)
    assert state.phase is ImagePhase.PRESENT
