"""A server for each module, a namespace for each test, and the clients that users have."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.root.controlplane.server import ApiServer, api_server
from tests.support.kubectl import Kubectl
from tests.support.machine import Allowances


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, machine_allowances: Allowances
) -> Iterator[ApiServer]:
    """A server that all tests of a module share."""
    with api_server(tmp_path_factory.mktemp("apiserver")) as running:
        if not running.kubeconfig.exists():
            write_plain_kubeconfig(running.kubeconfig, running.url)
        yield running


@pytest.fixture(scope="module")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """The administrator's, of a server that all tests of a module share.

    The variable ``KUBELETPY_TESTS_KUBECONFIG`` names one of another server: what these tests ask
    for is what a real kube-apiserver does, and so it can be tried.
    """
    other = os.environ.get("KUBELETPY_TESTS_KUBECONFIG")
    if other:
        return Path(other)
    server: ApiServer = request.getfixturevalue("server")
    return server.kubeconfig


@pytest.fixture(scope="module")
def admin(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Kubectl of the administrator, for what is in no namespace."""
    return Kubectl(kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture
def namespace(admin: Kubectl) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    admin("create", "namespace", name)
    yield name
    admin("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubectl(admin: Kubectl, namespace: str) -> Kubectl:
    """Kubectl in a namespace of the test's own."""
    return admin.within(namespace)


def write_plain_kubeconfig(path: Path, url: str) -> None:
    """Write a kubeconfig for a server without TLS."""
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": url}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": ""}}],
        "current-context": "local",
    }
    path.write_text(yaml.safe_dump(config))
