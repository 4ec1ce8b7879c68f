"""``kubeletpy cri`` and ``kubeletpy image`` against the real daemon."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, wait_until
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).resolve().parents[4]


def command(node: Node, group: str, *arguments: str) -> list[str]:
    script = "import sys; from kubeletpy.cli import main; main(prog_name='kubeletpy')"
    endpoint = f"unix://{node.place.socket}"
    return [sys.executable, "-c", script, group, "-r", endpoint, *arguments]


def run(node: Node, group: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(node, group, *arguments), capture_output=True, text=True, cwd=CHECKOUT,
        timeout=patient(60), check=False,
    )  # fmt: skip


def ok(node: Node, group: str, *arguments: str) -> str:
    done = run(node, group, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lists_show_what_there_is(node: Node) -> None:
    with node.pod(name="shown", labels={"app": "x"}) as sandbox:
        running = node.run(sandbox, *SLEEP, name="runs")
        ended = node.run_to_end(sandbox, "true", name="ended").id
        shown = ok(node, "cri", "ps")
        assert running[:13] in shown
        assert "tests/shown" in shown
        assert ended[:13] not in shown
        assert set(ok(node, "cri", "ps", "-aq", "-p", "shown").split()) == {running, ended}
        listed = json.loads(ok(node, "cri", "ps", "-o", "json"))
        assert [item["metadata"]["name"] for item in listed["containers"]] == ["runs"]
        assert ok(node, "cri", "pods", "-q", "-l", "app=x").split() == [sandbox]
        assert "Ready" in ok(node, "cri", "pods")
        listed = yaml.safe_load(ok(node, "cri", "images", "-o", "yaml"))
        assert [item["id"] for item in listed["images"]] == [node.image]


def test_inspect_finds_containers_pods_and_images(node: Node) -> None:
    def inspect(*arguments: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(ok(node, "cri", "inspect", *arguments))
        return shown

    with node.pod(name="looked") as sandbox:
        container = node.run(sandbox, *SLEEP, name="here")
        shown = inspect("here")
        assert shown["status"]["id"] == container
        assert shown["info"]["runtimeSpec"]["process"]["args"] == list(SLEEP)
        assert inspect(container[:6])["status"]["id"] == container
        assert inspect("tests/looked")["status"]["network"]["ip"].startswith("10.87.")
        assert inspect("-t", "image", node.image)["status"]["id"] == node.image
        lines = ok(node, "cri", "inspect", "-o", "table", "here").splitlines()
        assert ["state", "CONTAINER_RUNNING"] in [line.split() for line in lines]
        missing = run(node, "cri", "inspect", "nothing")
        assert missing.returncode == 1
        assert "there is no container 'nothing'" in missing.stderr
        assert "Traceback" not in missing.stderr


def test_exec_passes_output_and_exit_code_on(node: Node) -> None:
    with node.pod() as sandbox:
        node.run(sandbox, *SLEEP, name="host")
        script = "echo out; echo err >&2; exit 7"
        done = run(node, "cri", "exec", "--sync", "host", "--", "sh", "-c", script)
        assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
        echoed = ok(node, "cri", "exec", "--sync", "host", "echo", "-n", "-r", "--help")
        assert echoed == "-r --help"
        late = run(node, "cri", "exec", "--sync", "--limit", "1", "host", "sleep", "100")
        assert late.returncode == 1
        assert "DEADLINE_EXCEEDED" in late.stderr
        node.run_to_end(sandbox, "true", name="gone")
        gone = run(node, "cri", "exec", "gone", "true")
        assert gone.returncode == 1
        assert "not running (exited)" in gone.stderr


def test_logs_of_what_ended(node: Node) -> None:
    with node.pod() as sandbox:
        script = "echo one; echo two >&2; echo three"
        node.run_to_end(sandbox, "sh", "-c", script, name="wrote")
        done = run(node, "cri", "logs", "wrote")
        assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
        # The two streams are read one after the other: which line is the last, is not known.
        done = run(node, "cri", "logs", "--tail", "1", "-t", "wrote")
        assert len((done.stdout + done.stderr).splitlines()) == 1
        assert (done.stdout + done.stderr).startswith("20")
        assert ok(node, "cri", "logs", "--since", "1h", "-f", "wrote") == "one\nthree\n"
        assert ok(node, "cri", "logs", "--since", "2100-01-01", "wrote") == ""


def test_logs_follow_until_the_end_over_a_rotation(node: Node) -> None:
    with node.pod() as sandbox:
        script = (
            "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo second; "
            "while [ ! -e /end ]; do sleep 0.05; done; echo last; exit 3"
        )
        container = node.run(sandbox, "sh", "-c", script, name="writes")
        follower = subprocess.Popen(
            command(node, "cri", "logs", "-f", "writes"), stdout=subprocess.PIPE, cwd=CHECKOUT
        )
        try:
            assert read_line(follower) == b"first\n"
            log = Path(node.status(container).log_path)
            log.rename(log.with_suffix(".old"))
            node.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
            node.shell(container, "touch /go")
            assert read_line(follower) == b"second\n"
            node.shell(container, "touch /end")
            assert read_line(follower) == b"last\n"
            assert follower.wait(patient(20)) == 0
        finally:
            follower.kill()
            follower.communicate()


def read_line(process: subprocess.Popen[bytes], timeout: float = 20) -> bytes:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout)
    assert ready, "nothing was printed"
    return process.stdout.readline()


def test_stats_and_events(node: Node) -> None:
    watcher = subprocess.Popen(
        command(node, "cri", "events"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=CHECKOUT,
    )  # fmt: skip
    try:
        # Nothing tells when it is subscribed, so pods are made until it speaks.
        assert watcher.stdout is not None
        stdout = watcher.stdout

        def speaks() -> bool:
            with node.pod(name="eventful"):
                pass
            return bool(select.select([stdout], [], [], 0.2)[0])

        wait_until(speaks, "an event", 30)
        assert b"tests/eventful" in read_line(watcher)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(patient(10)) == 0
    finally:
        watcher.kill()
        watcher.communicate()
    with node.pod(name="busy") as sandbox:
        container = node.run(
            sandbox, "sh", "-c", "while :; do :; done", name="spins",
            resources={"memory_limit_in_bytes": 64 << 20},
        )  # fmt: skip
        [row] = ok(node, "cri", "stats", "-s", "0.5", "spins").splitlines()[1:]
        words = row.split()
        assert words[:2] == [container[:13], "spins"]
        assert float(words[2]) > 5
        assert "64.0 MiB" in row
        [row] = ok(node, "cri", "stats", "-p", "-s", "0.5").splitlines()[1:]
        assert row.split()[1:3] == ["tests", "busy"]
        listed = json.loads(ok(node, "cri", "stats", "-s", "0.6", "-o", "json"))
        assert int(listed["stats"][0]["cpu"]["usageNanoCores"]["value"]) > 0
        watch = subprocess.Popen(
            command(node, "cri", "stats", "--watch", "-s", "0.1", "-o", "json"),
            stdout=subprocess.PIPE, cwd=CHECKOUT, bufsize=0,
        )  # fmt: skip
        try:
            for _ in range(3):
                [shown] = json.loads(read_line(watch))["stats"]
                assert shown["attributes"]["id"] == container
            watch.send_signal(signal.SIGINT)
            assert watch.wait(patient(10)) == 0
        finally:
            watch.kill()
            watch.communicate()


def test_images_are_pulled_listed_removed_and_pruned(node: Node) -> None:
    first, second = node.push("tests/one", {"a": b"1"}), node.push("tests/two", {"b": b"2"})
    reference = ok(node, "image", "pull", first).strip()
    ok(node, "image", "pull", second)
    assert "tests/one" in ok(node, "image", "ls")
    assert reference
    identifier = ok(node, "image", "ls", "-q", second).strip()
    ok(node, "image", "rm", identifier.removeprefix("sha256:")[:12])
    assert "tests/two" not in ok(node, "image", "ls")
    unknown = run(node, "image", "rm", "tests/none:v1", first)
    assert unknown.returncode == 1
    assert "'tests/none:v1' is not here" in unknown.stderr
    assert first in unknown.stdout
    failed = run(node, "image", "pull", f"{node.registry}/tests/none:v1")
    assert failed.returncode == 1
    assert "NOT_FOUND" in failed.stderr
