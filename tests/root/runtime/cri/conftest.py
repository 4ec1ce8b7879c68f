"""One daemon a module, and a check that nothing of a pod is left behind each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.root.runtime.cri.node import Node, Place, running_node
from tests.support.machine import Allowances, Scope


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("cri"))


@pytest.fixture(scope="module")
def machine_scope(place: Place) -> Scope:
    """Of the runtime's own files those count that belong to pods."""
    directories = (
        place.state / "sandboxes",
        place.state / "containers",
        place.root / "volumes",
    )
    for directory in directories:
        # There before the daemon makes them, so that they do not count as left behind.
        directory.mkdir(mode=0o700, parents=True)
    default = Scope.of_environment()
    return Scope(strict=default.strict, names=(place.token,), directories=directories)


@pytest.fixture(scope="module")
def settings() -> str:
    """More TOML for the runtime's config file; a module overrides it."""
    return ""


@pytest.fixture(scope="module")
def node(place: Place, settings: str, machine_allowances: Allowances) -> Iterator[Node]:
    # A test that restarts the daemon leaves another process than it found.
    machine_allowances.allow("processes", "-m runtime")
    machine_allowances.allow("processes", "spawner")
    machine_allowances.allow("processes", "unpacker")
    with running_node(place, settings) as running:
        yield running
