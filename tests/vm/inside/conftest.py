"""A runtime for each cgroup driver, on cgroup v2 with systemd as PID 1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# The fixtures of the root tests: the machine is compared before and after here too.
from tests.root.conftest import (
    machine,
    machine_allowances,
    machine_scope,
    privileged_machine,
    pytest_fixture_post_finalizer,
    pytest_fixture_setup,
    pytest_runtest_makereport,
)
from tests.root.runtime.cri.node import Node, Place, running_node
from tests.support.machine import Allowances

__all__ = [
    "machine", "machine_allowances", "machine_scope", "privileged_machine",
    "pytest_fixture_post_finalizer", "pytest_fixture_setup", "pytest_runtest_makereport",
]  # fmt: skip


@pytest.fixture(scope="module", params=["cgroupfs", "systemd"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def node(
    driver: str, tmp_path_factory: pytest.TempPathFactory, machine_allowances: Allowances
) -> Iterator[Node]:
    place = Place(tmp_path_factory.mktemp(driver), driver=driver)
    for what, name in (
        ("processes", "kubeletpy"),
        ("processes", "runtime"),
        ("files", str(place.directory)),
        # Of the driver before: a look at the machine serves two tests, also where it changes.
        ("processes", "docker-registry"),
        ("network namespaces", str(place.directory)),
        ("mounts", str(place.directory)),
    ):
        machine_allowances.allow(what, name)
    with running_node(place) as running:
        yield running
