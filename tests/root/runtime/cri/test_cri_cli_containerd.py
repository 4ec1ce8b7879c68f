"""``kubeletpy cri`` and ``image`` against a runtime that is not ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.containerd import Containerd, running_containerd
from tests.root.runtime.cri.test_cri_cli import read_line
from tests.root.runtime.cri.test_cri_cli_streams import exchange
from tests.support.circumstances import patient
from tests.support.machine import Allowances, Scope

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).resolve().parents[4]
ECHO = ("sh", "-c", "echo started; nc -ll -p 7007 -e cat & sleep 1000")


@pytest.fixture(scope="module")
def machine_scope(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    default = Scope.of_environment()
    return Scope(strict=default.strict, names=(), directories=())


@pytest.fixture(scope="module")
def peer(
    tmp_path_factory: pytest.TempPathFactory, machine_allowances: Allowances
) -> Iterator[Containerd]:
    with running_containerd(tmp_path_factory.mktemp("peer")) as found:
        container = found.run("web", *ECHO)
        script = "until netstat -ltn | grep -q :7007; do sleep 0.02; done"
        request = cri.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script], timeout=20)
        assert found.runtime.ExecSync(request, timeout=patient(30)).exit_code == 0
        yield found


def command(peer: Containerd, group: str, *arguments: str) -> list[str]:
    script = "import sys; from kubeletpy.cli import main; main(prog_name='kubeletpy')"
    return [sys.executable, "-c", script, group, "-r", f"unix://{peer.socket}", *arguments]


def run(peer: Containerd, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    with in_namespace(peer.netns):
        return subprocess.run(
            command(peer, *arguments), input=data, capture_output=True, cwd=CHECKOUT, check=False,
            timeout=patient(60),
        )  # fmt: skip


def ok(peer: Containerd, *arguments: str, data: bytes = b"") -> str:
    done = run(peer, *arguments, data=data)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_lists_logs_and_inspect(peer: Containerd) -> None:
    assert "web-main" in ok(peer, "cri", "ps")
    assert [
        i["metadata"]["name"] for i in json.loads(ok(peer, "cri", "pods", "-o", "json"))["items"]
    ] == ["web"]
    found = yaml.safe_load(ok(peer, "cri", "inspect", "-o", "yaml", "web-main"))
    assert found["info"]["runtimeSpec"]["process"]["args"] == list(ECHO)
    assert ok(peer, "cri", "logs", "web-main") == "started\n"
    assert "web-main" in ok(peer, "cri", "stats", "-s", "0.1")
    [shown] = json.loads(ok(peer, "cri", "stats", "-s", "0.1", "-o", "json"))["stats"]
    assert shown["attributes"]["metadata"]["name"] == "web-main"


def test_exec_and_half_close(peer: Containerd) -> None:
    done = run(peer, "cri", "exec", "web-main", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)
    data = os.urandom(300_000)
    done = run(peer, "cri", "exec", "-i", "web-main", "cat", data=data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data
    done = run(peer, "cri", "exec", "--sync", "web-main", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3


def test_port_forward(peer: Containerd) -> None:
    with in_namespace(peer.netns):
        process = subprocess.Popen(
            command(peer, "cri", "port-forward", "web", ":7007"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=CHECKOUT, bufsize=0,
        )  # fmt: skip
    try:
        port = int(read_line(process, 30).split()[0].rpartition(b":")[2])
        data = os.urandom(100_000)
        with in_namespace(peer.netns):
            assert exchange(port, data) == data
        process.send_signal(signal.SIGINT)
        assert process.wait(patient(20)) == 0
    finally:
        process.kill()
        process.communicate()


def test_images_by_plain_cri(peer: Containerd, tmp_path: Path) -> None:
    assert ok(peer, "image", "pull", peer.image).startswith("sha256:")
    assert "peer" in ok(peer, "image", "ls")
    for arguments in (["import", "-"], ["export", str(tmp_path / "x.tar"), peer.image]):
        done = run(peer, "image", *arguments)
        assert done.returncode == 1
        assert b"CRI has no call for it" in done.stderr
        assert b"ctr images" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert "nothing to remove" in run(peer, "image", "prune").stderr.decode()
    assert (
        json.loads(ok(peer, "image", "prune", "--all", "--dry-run", "-o", "json"))["removed"] == []
    )
