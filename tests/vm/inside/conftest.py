"""A runtime for each cgroup driver, on cgroup v2 with systemd as PID 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

# The fixtures of the root tests: the machine is compared before and after here too.
from tests.root.conftest import (
    machine,
    machine_allowances,
    machine_scope,
    privileged_machine,
)
from tests.root.runtime.cri import node as nodes
from tests.root.runtime.cri.node import Node, Place, running_node
from tests.support.machine import Allowances

__all__ = ["machine", "machine_allowances", "machine_scope", "privileged_machine"]

# Emulated, everything takes many times as long.
nodes.BOOT_SECONDS = 120.0


class SlicedPlace(Place):
    """A place whose runtime has systemd make cgroups."""

    @property
    def cgroup(self) -> str:
        return f"/kt{self.token}.slice"

    def write_config(self, extra: str = "") -> Path:
        path = super().write_config(extra)
        text = path.read_text()
        assert text.count("[cgroups]\n") == 1
        path.write_text(text.replace("[cgroups]\n", '[cgroups]\ndriver = "systemd"\n'))
        return path


@pytest.fixture(scope="module", params=["cgroupfs", "systemd"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def node(
    driver: str, tmp_path_factory: pytest.TempPathFactory, machine_allowances: Allowances
) -> Iterator[Node]:
    kind = {"cgroupfs": Place, "systemd": SlicedPlace}[driver]
    place = kind(tmp_path_factory.mktemp(driver))
    for what, name in (
        ("processes", "kubeletpy"),
        ("processes", "runtime"),
        ("files", str(place.directory)),
    ):
        machine_allowances.allow(what, name)
    with running_node(place) as running:
        yield running
