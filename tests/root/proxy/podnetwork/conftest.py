"""Nodes in namespaces, once for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.machine import Allowances
from tests.support.proxylab.mesh import NODES, Cluster


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, machine_allowances: Allowances
) -> Iterator[Cluster]:
    """Four nodes that are registered, without daemons and pods."""
    with Cluster.built(tmp_path_factory.mktemp("mesh")) as built:
        machine_allowances.allow("processes", "proxy.podnetwork")
        built.register(*NODES)
        yield built
