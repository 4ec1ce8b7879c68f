"""Devices of a node without an API server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubeletpy.affinity.setup import Affinity
from kubeletpy.devices.manager import DeviceManager
from kubeletpy.plugins.assembly import NodeResources
from kubeletpy.pods.environment import ContainerFault
from kubeletpy_proto import cri_pb2
from tests.unit.kubeletpy.affinity.machines import pod


class Topology:
    def __init__(self) -> None:
        self.providers: list[object] = []
        self.admitted: list[str] = []

    async def admit(self, one: Any) -> None:
        self.admitted.append(one.metadata.uid)


@pytest.mark.parametrize("alone", [True, False])
async def test_a_device_that_nobody_offers_is_waited_for_where_nobody_else_can_give_it(
    tmp_path: Path, alone: bool
) -> None:
    topology = Topology()
    affinity = cast(Affinity, SimpleNamespace(manager=topology, pinning=None))
    devices = DeviceManager(tmp_path, (0,))
    resources = NodeResources(affinity, devices, list, alone=alone)
    one, config = pod("u1", {"vendor.com/gpu": "1"}), cri_pb2.ContainerConfig()
    assert await resources.admit(one) is None
    if not alone:
        await resources.configure(one, one.spec.containers[0], config)
        assert topology.admitted == ["u1"]
        return
    with pytest.raises(ContainerFault, match=r"no device plug-in offers vendor\.com/gpu"):
        await resources.configure(one, one.spec.containers[0], config)
    # As soon as it is offered the pod is given it, as one that comes anew.
    devices.offers = lambda resource: True  # type: ignore[method-assign]
    devices.wanted = lambda container: {}  # type: ignore[method-assign]
    await resources.configure(one, one.spec.containers[0], config)
    assert topology.admitted == ["u1", "u1"]
