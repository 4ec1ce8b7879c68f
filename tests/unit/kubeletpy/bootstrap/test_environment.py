"""The virtual environment is whole or absent, and made only when it must be.

A small shell script stands in for Python and pip: it makes the same files and can be told to fail.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kubeletpy.bootstrap import BootstrapError, Environment

PYTHON = """#!/bin/sh
here={checkout}
echo "$*" >> $here/calls
case "$2" in
venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
pip)
    if [ -e $here/fail ]; then echo "ERROR: $(cat $here/fail)"; exit 1; fi ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    python = tmp_path / "python"
    python.write_text(PYTHON.format(checkout=tmp_path))
    python.chmod(0o755)
    return tmp_path


def environment(checkout: Path) -> Environment:
    return Environment(checkout, base=str(checkout / "python"))


def calls(checkout: Path) -> list[str]:
    """Return what was run since the last call: ``venv`` or ``pip``."""
    path = checkout / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.split()[1] for line in lines]


def test_made_once(checkout: Path) -> None:
    assert not environment(checkout).is_ready()
    environment(checkout).ensure()
    assert environment(checkout).is_ready()
    assert calls(checkout) == ["venv", "pip"]
    environment(checkout).ensure()
    assert calls(checkout) == []


def test_extras_are_added_and_kept(checkout: Path) -> None:
    environment(checkout).ensure()
    assert not environment(checkout).is_ready(["dev"])
    environment(checkout).ensure(["dev"])
    (checkout / "pyproject.toml").write_text("[project]\nname='x'\n")
    environment(checkout).ensure()
    assert calls(checkout) == ["venv", "pip", "pip", "pip"]
    assert environment(checkout).is_ready(["dev"])


def test_changed_pyproject_installs_again(checkout: Path) -> None:
    environment(checkout).ensure()
    (checkout / "pyproject.toml").write_text("[project]\ndependencies=['new']\n")
    assert not environment(checkout).is_ready()
    calls(checkout)
    environment(checkout).ensure()
    assert calls(checkout) == ["pip"]


def test_upgraded_interpreter_makes_it_anew(checkout: Path) -> None:
    made = environment(checkout)
    made.ensure()
    other = checkout / "python3.99"
    made.python.rename(other)
    made.python.symlink_to(other)
    assert not environment(checkout).is_ready()
    calls(checkout)
    environment(checkout).ensure()
    assert calls(checkout) == ["venv", "pip"]


def test_failed_first_install_leaves_nothing(checkout: Path) -> None:
    (checkout / "fail").write_text("No matching distribution found for grpcio")
    with pytest.raises(BootstrapError, match="No matching distribution found for grpcio"):
        environment(checkout).ensure()
    assert not environment(checkout).path.exists()


def test_failed_update_keeps_the_old_one(checkout: Path) -> None:
    environment(checkout).ensure()
    (checkout / "pyproject.toml").write_text("[project]\ndependencies=['new']\n")
    (checkout / "fail").write_text("broken")
    with pytest.raises(BootstrapError, match="broken"):
        environment(checkout).ensure()
    assert not environment(checkout).is_ready()
    (checkout / "pyproject.toml").write_text("[project]\n")
    assert environment(checkout).is_ready()


def test_network_failure_says_what_to_check(checkout: Path) -> None:
    (checkout / "fail").write_text("<urlopen error> Temporary failure in name resolution")
    with pytest.raises(BootstrapError, match=r"Check the network and pip's settings"):
        environment(checkout).ensure()


def test_half_made_environment_of_a_killed_run_is_replaced(checkout: Path) -> None:
    made = environment(checkout)
    (made.path / "lib").mkdir(parents=True)
    (made.path / "lib" / "half").touch()
    made.ensure()
    assert calls(checkout) == ["venv", "pip"]
    assert not (made.path / "lib" / "half").exists()


def test_two_at_the_same_time_make_it_once(checkout: Path) -> None:
    threads = [threading.Thread(target=environment(checkout).ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert calls(checkout) == ["venv", "pip"]
    assert environment(checkout).is_ready()


def test_moved_checkout_is_made_anew(checkout: Path, tmp_path: Path) -> None:
    environment(checkout).ensure()
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("pyproject.toml", ".venv"):
        (checkout / name).rename(moved / name)
    # Scripts in it name its old path in their first line.
    assert not environment(moved).is_ready()
