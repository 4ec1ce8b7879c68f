from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import msgspec
import pytest

from kubeletpy.cri import cgroup_driver
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.settings import Settings
from kubeletpy_proto import cri_pb2 as cri


class Runtime:
    """Answers, refuses, or hangs."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def runtime_config(self) -> cri.RuntimeConfigResponse:
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, grpc.StatusCode):
            raise CriError("RuntimeConfig", self.answer, "no")
        return cast(cri.RuntimeConfigResponse, self.answer)


def named(driver: Any) -> cri.RuntimeConfigResponse:
    return cri.RuntimeConfigResponse(linux=cri.LinuxRuntimeConfiguration(cgroup_driver=driver))


@pytest.mark.parametrize(
    ("answer", "driver"),
    [
        (named(cri.SYSTEMD), "systemd"),
        (named(cri.CGROUPFS), "cgroupfs"),
        (named(7), ""),
        (cri.RuntimeConfigResponse(), ""),
        (grpc.StatusCode.UNIMPLEMENTED, ""),
        (grpc.StatusCode.UNAVAILABLE, None),
        (None, None),
    ],
    ids=range(7),
)
async def test_what_a_runtime_says(
    answer: Any, driver: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup_driver, "_SECONDS", 0.05)
    assert await cgroup_driver.ask(cast(CriClient, Runtime(answer))) == driver


@pytest.mark.parametrize(
    ("told", "here", "used"),
    [("systemd", "cgroupfs", "systemd"), ("cgroupfs", "systemd", "cgroupfs"),
     ("", "systemd", "systemd"), (None, "systemd", "systemd"), ("systemd",) * 3],
)  # fmt: skip
def test_the_runtimes_goes_before_ours(told: str | None, here: str, used: str) -> None:
    settings = Settings()
    configuration = msgspec.structs.replace(settings.configuration, cgroup_driver=here)
    found = cgroup_driver.taken(Settings(configuration=configuration), told)
    assert found.configuration.cgroup_driver == used
    cgroup_driver.check(found, told or "")


def test_a_runtime_that_comes_later_and_does_otherwise_is_followed() -> None:
    with pytest.raises(cgroup_driver.OtherDriver) as caught:
        cgroup_driver.check(Settings(), "systemd")
    assert caught.value.driver == "systemd"
    found = cgroup_driver.taken(Settings(), caught.value.driver)
    cgroup_driver.check(found, "systemd")
