"""One cluster for all of these tests, made as a user makes it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.vm.cluster.cluster import Cluster, machines

NODES = int(os.environ.get("KUBELETPY_VM_NODES", "1"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with machines(["server", *(f"node{number}" for number in range(1, NODES + 1))]) as made:
        yield made


@pytest.fixture(scope="module")
def joined(cluster: Cluster) -> Cluster:
    """The cluster with all its nodes."""
    cluster.provision_server()
    cluster.provision_nodes()
    cluster.wait_nodes()
    return cluster
