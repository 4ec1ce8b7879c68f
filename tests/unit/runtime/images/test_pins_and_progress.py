from __future__ import annotations

import asyncio
import logging

import pytest

from runtime.images.errors import (
    DigestMismatch,
    ImageError,
    NoSpace,
    RegistryUnreachable,
    TruncatedBlob,
    UnsafeLayer,
)
from runtime.images.leftovers import Leftovers, is_worth_keeping
from runtime.images.pins import Pins, check
from runtime.images.progress import ProgressLog, PullProgress
from runtime.images.transport import seconds_of

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("pattern", "name", "held"),
    [
        ("busybox", "docker.io/library/busybox:latest", True),
        ("busybox", "docker.io/library/busybox:1", False),
        ("a.io/b:v1", "a.io/b:v1", True),
        (f"a.io/b@{DIGEST}", f"a.io/b@{DIGEST}", True),
        (f"a.io/b:v1@{DIGEST}", f"a.io/b@{DIGEST}", True),
        ("registry.k8s.io/pause:*", "registry.k8s.io/pause:3.10", True),
        ("registry.k8s.io/pause*", f"registry.k8s.io/pause@{DIGEST}", True),
        ("registry.k8s.io/pause:*", "registry.k8s.io/pauses:3", False),
        ("*/base:*", "a.io/x/base:v1", True),
        ("*", "a.io/x:v1", True),
        ("[::1]:5000/*", "[::1]:5000/app:v1", True),
        ("a.io/?:*", "a.io/b:v1", False),
    ],
)
def test_pins(pattern: str, name: str, held: bool) -> None:
    assert Pins([pattern]).hold([name]) is held
    assert Pins(["other", pattern]).hold(["a.io/none:v1", name]) is held


def test_pins_that_are_none() -> None:
    assert check(["busybox", "a*"]) is None
    assert "Busybox" in (check(["Busybox"]) or "")
    assert not Pins([]).hold(["a.io/b:v1"])


def test_progress_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    told: list[PullProgress] = []
    progress = ProgressLog(told.append, 10.0, lambda: now)

    def step(stage: str, digest: str, done: int) -> None:
        progress(PullProgress("a.io/b:v1", stage, digest, done, 100))  # type: ignore[arg-type]

    with caplog.at_level(logging.INFO):
        for second in range(35):
            now = float(second)
            step("downloading", "one", second)
            step("unpacking" if second > 9 else "downloading", "two", 100)
    assert len(told) == 70
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert [(f["bytes_done"], f["bytes_total"]) for f in fields] == [
        (110, 200), (120, 200), (130, 200),
    ]  # fmt: skip
    assert fields[-1]["layers_unpacking"] == 1
    assert fields[-1]["layers"] == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("9" * 400, 999999999.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("-7", None),
        ("soon", None),
        ("", None),
        ("Thu, 99 Jan 1970", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    assert seconds_of(header, 60.0) == seconds


@pytest.mark.parametrize(
    ("error", "kept"),
    [(RegistryUnreachable, True), (TruncatedBlob, True), (NoSpace, False), (UnsafeLayer, False),
     (DigestMismatch, False)],
)  # fmt: skip
def test_what_the_next_try_may_use(error: type[ImageError], kept: bool) -> None:
    assert is_worth_keeping(error("x")) is kept


async def test_leftovers_are_collected_once() -> None:
    collected = asyncio.Queue[None]()

    async def collect() -> int:
        collected.put_nowait(None)
        return 0

    leftovers = Leftovers(0.01, collect)
    for _ in range(5):
        leftovers.collect_later()
    await asyncio.wait_for(collected.get(), 30)
    await asyncio.sleep(0.03)
    assert collected.empty()
    leftovers.collect_later()
    await leftovers.close()
    leftovers.collect_later()
    await asyncio.sleep(0.03)
    assert collected.empty()
