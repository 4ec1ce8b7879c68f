from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kubeletpy.up import report
from kubeletpy.up.cluster_tour import ClusterView
from kubeletpy.up.node import ApiFacts
from kubeletpy.up.progress import Timing
from kubeletpy.up.tour import Exec, Findings, PodView, message_of

STATUS: dict[str, Any] = {
    "phase": "Running",
    "qosClass": "Burstable",
    "conditions": [{"type": "Ready", "status": "True"}],
    "podIP": "10.88.0.2",
    "podIPs": [{"ip": "10.88.0.2"}, {"ip": "fd88::2"}],
    "initContainerStatuses": [
        {"name": "first", "ready": True, "state": {"terminated": {"reason": "Completed"}}}
    ],
    "containerStatuses": [
        {"name": "server", "ready": True, "image": "r/web:1", "state": {"running": {}}}
    ],
}


@pytest.fixture
def findings() -> Findings:
    return Findings(
        api=ApiFacts("https://127.0.0.1:6443", "v1.36.0", Path("/run/up/kubeconfig")),
        node="node",
        image="127.0.0.1:5000/demo/web:1",
        runtime="kubeletpy 0.1.0",
        pod=PodView("web-node", STATUS),
        url="http://10.88.0.2:8080/",
        page="<h1>[bold]Hello</h1>\n",
        log=["wrote 1", "wrote 2"],
        exec=Exec("writer", ("ps",), 0, "PID 1 sh\n"),
        cluster=ClusterView("web", 3, "10.96.1.1", "hello from web-a\n", 5, "web-b", "web-c"),
        timings=[Timing("one", 0.5), Timing("two", 0.25)],
    )


def test_json_has_what_a_program_needs(findings: Findings) -> None:
    document = json.loads(report.as_json(findings))
    assert document["pod"]["ready"] is True
    assert document["pod"]["ips"] == ["10.88.0.2", "fd88::2"]
    assert [entry["name"] for entry in document["pod"]["containers"]] == ["first", "server"]
    assert document["pod"]["containers"][0]["state"] == "terminated"
    assert document["apiServer"] == {
        "url": "https://127.0.0.1:6443",
        "version": "v1.36.0",
        "kubeconfig": "/run/up/kubeconfig",
        "nodeRegistered": True,
    }
    assert document["node"] == "node"
    assert document["exec"]["command"] == ["ps"]
    assert document["cluster"]["scaled"] == 5
    assert document["timings"][1] == {"step": "two", "seconds": 0.25}


def test_text_shows_everything_and_takes_no_markup_from_the_pod(findings: Findings) -> None:
    output = io.StringIO()
    report.show(findings, Console(file=output, width=120))
    text = output.getvalue()
    for part in ("web-node", "Running, Ready", "10.88.0.2", "terminated (Completed)", "wrote 2",
                 "API server v1.36.0 at https://127.0.0.1:6443; node node is Ready"):  # fmt: skip
        assert part in text
    assert "<h1>[bold]Hello</h1>" in text
    assert "0.75 s" in text


def test_trouble_names_container_reason_and_message() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    done = {"terminated": {"reason": "Completed"}}
    pod = PodView(
        "web",
        {
            "phase": "Pending",
            "initContainerStatuses": [{"name": "first", "state": done}],
            "containerStatuses": [{"name": "server", "state": waiting}],
        },
    )
    assert not pod.ready
    assert pod.trouble() == "server: ErrImagePull (not found)"
    assert PodView("web", {"phase": "Pending"}).trouble() == "phase Pending"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2026-01-01T00:00:00.0Z stdout F hello  world", "hello  world"),
        ("2026-01-01T00:00:00.0Z stderr P ", ""),
        ("odd", "odd"),
    ],
)
def test_message_of_a_log_line(line: str, message: str) -> None:
    assert message_of(line) == message
