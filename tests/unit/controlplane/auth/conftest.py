from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.unit.controlplane.auth.secure import make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a server: a first start makes keys and a hundred objects, which takes its time."""
    directory = tmp_path_factory.mktemp("template")
    asyncio.run(make_template(directory))
    return directory


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    """A directory that a server has used before."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path
