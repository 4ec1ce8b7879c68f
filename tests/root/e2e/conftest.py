from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.e2e.running import Directories
from tests.support.machine import Scope


@pytest.fixture(scope="module")
def machine_scope() -> Scope:
    """Also on a machine that others use, these cgroups are ours."""
    scope = Scope.of_environment()
    return Scope(scope.strict, names=("cgroup /kubepods", "kubeletpy0", "kpup-"))


@pytest.fixture
def directories() -> Iterator[Directories]:
    name = f"kpup-{secrets.token_hex(3)}"
    made = Directories(Path("/var/lib") / name, Path("/run") / name)
    yield made
    shutil.rmtree(made.data, ignore_errors=True)
    shutil.rmtree(made.run, ignore_errors=True)
