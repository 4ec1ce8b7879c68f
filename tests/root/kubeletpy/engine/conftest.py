"""A runtime a module and a kubelet a test; after each test the machine is as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import KubeletProcess
from tests.root.runtime.cri.node import Node, Place, running_node
from tests.support.machine import Allowances, Scope


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def machine_scope(place: Place) -> Scope:
    """Of the files those count that belong to pods."""
    directories = (place.state / "sandboxes", place.state / "containers", place.root / "volumes")
    for directory in directories:
        directory.mkdir(mode=0o700, parents=True)
    default = Scope.of_environment()
    return Scope(strict=default.strict, names=(place.token,), directories=directories)


@pytest.fixture(scope="module")
def node(place: Place, machine_allowances: Allowances) -> Iterator[Node]:
    machine_allowances.allow("processes", "-m runtime")
    machine_allowances.allow("processes", "spawner")
    machine_allowances.allow("processes", "unpacker")
    with running_node(place) as running:
        yield running


@pytest.fixture
def stopped_kubelet(node: Node, machine: None, tmp_path_factory: Any) -> Iterator[KubeletProcess]:
    """A kubelet that is not started; in the end its pods are ended and nothing may be left."""
    process = KubeletProcess(node.place, tmp_path_factory.mktemp("kubelet"))
    yield process
    if process.ended:
        process.start()
    code = process.stop()
    assert code == 0, process.log()[-3000:]
    left = {path.name for path in process.root.iterdir()}
    assert left == {"lock"}
    assert not any(process.logs.glob("*"))
    assert "broke" not in process.log()


@pytest.fixture
def kubelet(stopped_kubelet: KubeletProcess) -> KubeletProcess:
    stopped_kubelet.start()
    return stopped_kubelet


@pytest.fixture
def run(node: Node) -> Callable[..., dict[str, Any]]:
    """Makes a container of a pod from a shell script."""

    def make(name: str, script: str, **fields: Any) -> dict[str, Any]:
        return {"name": name, "image": node.image, "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script], **fields}  # fmt: skip

    return make
