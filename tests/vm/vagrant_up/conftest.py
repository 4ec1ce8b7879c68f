"""One cluster for all of these tests, made by ``vagrant up``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.cluster.cluster import told
from tests.vm.vagrant_up.box import make_box
from tests.vm.vagrant_up.libvirt import libvirt
from tests.vm.vagrant_up.user import User


@pytest.fixture(scope="session")
def user() -> Iterator[User]:
    """Somebody with a checkout, Vagrant and libvirt, and nothing made by them yet."""
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="kvu-") as made:
        directory = Path(made)
        with told("making the box"):
            box = make_box(directory)
        with libvirt(directory / "libvirt") as served:
            somebody = User(directory / "user", box, served)
            with told("making the package"):
                somebody.check_out()
            yield somebody
