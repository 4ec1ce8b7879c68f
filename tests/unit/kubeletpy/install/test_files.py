from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kubeletpy.install.errors import InstallError
from kubeletpy.install.files import await_file


def _whole(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("")


def _by_steps(path: Path) -> None:
    for each in reversed(path.parents):
        each.mkdir(exist_ok=True)
    temporary = path.with_name("new")
    temporary.symlink_to("elsewhere")
    (path.parent / "elsewhere").write_text("")
    temporary.rename(path)


@pytest.mark.parametrize("make", [_whole, _by_steps])
def test_a_file_whose_directories_are_not_there_yet(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "kubelet/pki/current.pem"
    maker = threading.Timer(0.02, make, (path,))
    maker.start()
    await_file(path, 30)
    maker.join()
    await_file(path, 30)


def test_one_that_does_not_come(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="kubectl get csr"):
        await_file(tmp_path / "a/b", 0.05)
