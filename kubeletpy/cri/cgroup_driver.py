"""The cgroup driver that the runtime names: a kubelet does as it does (KEP-4033)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

import grpc
import msgspec

from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.settings import Settings
from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

_log = logging.getLogger(__name__)
_SECONDS: Final = 10.0
"""For the first question: a slow runtime has this time; one that is not there holds up nothing."""
_NAMES: Final = {cri_pb2.SYSTEMD: "systemd", cri_pb2.CGROUPFS: "cgroupfs"}


class OtherDriver(Exception):
    """The runtime came, and does otherwise than the kubelet began while it was away.

    Attributes:
        driver: the runtime's.
    """

    def __init__(self, driver: str) -> None:
        super().__init__(f"the container runtime's cgroup driver is {driver}")
        self.driver = driver


async def said(cri: CriClient) -> str:
    """Return ``systemd`` or ``cgroupfs``; "": the runtime does not say.

    Raises:
        CriError: it does not answer.
    """
    try:
        answer = await cri.runtime_config()
    except CriError as error:
        # containerd before 2.0 and CRI-O before 1.28 do not know the call.
        if error.code is grpc.StatusCode.UNIMPLEMENTED:
            return ""
        raise
    return _NAMES.get(answer.linux.cgroup_driver, "") if answer.HasField("linux") else ""


async def ask(cri: CriClient) -> str | None:
    """Return what `said` returns, None if there is no answer yet."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await said(cri)
    except (TimeoutError, CriError):
        return None


def taken(settings: Settings, driver: str | None) -> Settings:
    """Return the settings with the runtime's driver, which goes before that of the settings."""
    set_here = settings.configuration.cgroup_driver
    if not driver or driver == set_here:
        return settings
    logs.event(
        _log, logging.INFO, "the runtime's cgroup driver is used, not that of the settings",
        driver=driver, settings=set_here,
    )  # fmt: skip
    configuration = msgspec.structs.replace(settings.configuration, cgroup_driver=driver)
    return replace(settings, configuration=configuration)


def check(settings: Settings, driver: str) -> None:
    """See that the kubelet began as the runtime does, which may have been away then.

    Raises:
        OtherDriver: it did not: it has to begin again.
    """
    if driver and driver != settings.configuration.cgroup_driver:
        raise OtherDriver(driver)
