"""The command itself, writing below a directory: no systemd, nothing of this machine is touched."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
_SECONDS = 60.0
_COMMAND = [
    sys.executable, "-P", "-c",
    "from kubeletpy.cli import main; main(prog_name='kubeletpy')", "install",
]  # fmt: skip
SERVER = ("server", "--advertise-address", "192.0.2.1", "--program", "/opt/x/kubeletpy")


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*_COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=_SECONDS,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def install(root: Path, *arguments: str) -> Any:
    return json.loads(run(*SERVER, *arguments, "--root", str(root), "-o", "json").stdout)


def tree(root: Path) -> dict[str, bytes]:
    """Return all files and links below a directory with what is in them."""
    return {
        str(path.relative_to(root)): (
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_again_is_the_same(tmp_path: Path) -> None:
    did = install(tmp_path)
    assert set(did["files"].values()) == {"write"}
    first = tree(tmp_path)
    assert "etc/systemd/system/kubeletpy.target.wants/kubeletpy-proxy.service" in first
    modes = {
        name: (tmp_path / name).stat().st_mode & 0o777
        for name in ("etc/kubeletpy", "etc/kubeletpy/kubelet.yaml", "var/lib/kubeletpy/apiserver")
    }
    assert modes == {"etc/kubeletpy": 0o700, "etc/kubeletpy/kubelet.yaml": 0o600,
                     "var/lib/kubeletpy/apiserver": 0o700}  # fmt: skip
    assert set(install(tmp_path)["files"].values()) == {"same"}
    assert tree(tmp_path) == first


def test_a_changed_file_is_kept_and_an_unwanted_one_goes(tmp_path: Path) -> None:
    install(tmp_path)
    kubelet = tmp_path / "etc/kubeletpy/kubelet.yaml"
    kubelet.write_text(kubelet.read_text() + "maxPods: 7\n")
    did = install(tmp_path, "--no-proxy", "--taint", "a=b:NoSchedule")
    assert did["files"]["/etc/kubeletpy/kubelet.yaml"] == "keep"
    assert kubelet.read_text().endswith("maxPods: 7\n")
    names = "\n".join(tree(tmp_path))
    assert "proxy" not in names
    assert install(tmp_path, "--overwrite")["files"]["/etc/kubeletpy/kubelet.yaml"] == "write"
    assert "maxPods" not in kubelet.read_text()


def test_a_dry_run_writes_nothing_and_shows_all(tmp_path: Path) -> None:
    shown = run(*SERVER, "--root", str(tmp_path), "--dry-run").stdout
    assert "+++ /etc/systemd/system/kubeletpy-kubelet.service" in shown
    assert "systemctl start kubeletpy-apiserver.service" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0.8, 1.2])
def test_killed_at_any_moment_it_converges(tmp_path: Path, seconds: float) -> None:
    """However far it came: the next run makes what one run without a death makes."""
    process = subprocess.Popen(
        [*_COMMAND, *SERVER, "--root", str(tmp_path / "killed")], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait(_SECONDS)
    install(tmp_path / "killed")
    install(tmp_path / "whole")
    killed, whole = tree(tmp_path / "killed"), tree(tmp_path / "whole")
    assert {name for name in killed if not name.endswith(".tmp")} == whole.keys()
    assert all(killed[name] == whole[name] for name in whole)


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    install(tmp_path)
    done = run("node", "--root", str(tmp_path), "--program", "/x", code=1)
    assert "is installed as a server" in done.stderr
    done = run("node", "--root", str(tmp_path / "new"), "--program", "/x", code=1)
    assert "kubeletpy token create --print-join-command" in done.stderr.replace("\n", " ")
    done = run(*SERVER, "--pod-cidr", "10.96.0.0/12", "--root", str(tmp_path / "new"), code=1)
    assert "overlap" in done.stderr


def test_an_upgrade_of_nothing_is_none(tmp_path: Path) -> None:
    assert "nothing is installed" in run("--upgrade", "--root", str(tmp_path)).stderr
