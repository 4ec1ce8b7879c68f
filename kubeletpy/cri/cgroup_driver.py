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
_SECONDS: Final = 2.0
"""For the first question: a runtime that is not there yet holds up nothing."""
_NAMES: Final = {cri_pb2.SYSTEMD: "systemd", cri_pb2.CGROUPFS: "cgroupfs"}


async def ask(cri: CriClient) -> str | None:
    """Return ``systemd`` or ``cgroupfs``; "": the runtime does not say; None: no answer yet."""
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await cri.runtime_config()
    except TimeoutError:
        return None
    except CriError as error:
        # containerd before 2.0 and CRI-O before 1.28 do not know the call.
        return "" if error.code is grpc.StatusCode.UNIMPLEMENTED else None
    return _NAMES.get(answer.linux.cgroup_driver, "") if answer.HasField("linux") else ""


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


def mismatch(settings: Settings, driver: str | None) -> str:
    """Return what is wrong if a runtime that was away at the start does otherwise than we began."""
    ours = settings.configuration.cgroup_driver
    if not driver or driver == ours:
        return ""
    return (
        f"the container runtime's cgroup driver is {driver}, and this kubelet began with {ours} "
        "while the runtime was away: start it again (service managers do), or set "
        f"cgroupDriver: {driver}"
    )
