"""A shutdown by the real logind: pods end by priority, and are told of, before the machine goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import wait_for
from tests.root.runtime.cri.node import wait_until

from . import host
from .conftest import Cluster

pytestmark = pytest.mark.root

MARKS = Path("/var/tmp/marks")
SCRIPT = "trap 'cut -d\" \" -f1 /proc/uptime > /marks/$(hostname); exit 0' TERM; sleep 3600 & wait"


def marking(cluster: Cluster, name: str, **spec: Any) -> None:
    """Run a pod that writes down when it is asked to end."""
    cluster.run(
        name, SCRIPT, container={"volumeMounts": [{"name": "marks", "mountPath": "/marks"}]},
        volumes=[{"name": "marks", "hostPath": {"path": str(MARKS), "type": "Directory"}}],
        terminationGracePeriodSeconds=30, **spec,
    )  # fmt: skip


def reasons(cluster: Cluster) -> list[str]:
    """Return the messages of the node's events about shutdowns."""
    events = cluster.api.must("GET", "/api/v1/namespaces/default/events")["items"]
    return [one["message"] for one in events if one["reason"] == "NodeShutdown"]


def test_the_lock_is_held(cluster: Cluster) -> None:
    what, who, _, mode, uid, pid = host.inhibitors()[0]
    assert (what, who, mode, uid, pid) == (
        "shutdown", "kubelet", "delay", 0, host.main_pid(host.KUBELET),
    )  # fmt: skip
    assert len(host.inhibitors()) == 1
    # logind's own limit is 5 s, and was raised.
    assert host.longest_delay() == host.GRACE
    assert "InhibitDelayMaxSec=60" in Path("/etc/systemd/logind.conf.d/99-kubelet.conf").read_text()


def test_pods_end_before_the_machine_does(cluster: Cluster) -> None:
    MARKS.mkdir()
    marking(cluster, "plain")
    marking(cluster, "critical", priorityClassName="system-node-critical")
    # The machine is asked to power off, and does all of it but the last step.
    Path("/run/systemd/system/poweroff.target").write_text("[Unit]\nDescription=Nothing\n")
    host.run("systemctl", "daemon-reload")
    host.logind("PowerOff", "b", "false")
    wait_until(lambda: not host.inhibitors(), "the lock to be released", host.SECONDS)
    # Whatever the API server knows at this moment is what it will ever know of a machine that is
    # gone.
    pods = {name: cluster.api.pod(name) for name in ("plain", "critical")}
    for pod in pods.values():
        assert pod is not None
        status = pod["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "Terminated")
        target = [one for one in status["conditions"] if one["type"] == "DisruptionTarget"]
        assert [(one["status"], one["reason"]) for one in target] == [
            ("True", "TerminationByKubelet")
        ]
    ends = [float((MARKS / name).read_text()) for name in ("plain", "critical")]
    assert ends[0] < ends[1], "the critical one goes last"


def test_a_shutdown_that_is_over_is_a_cancellation(cluster: Cluster) -> None:
    # The target is reached and the machine is still there: logind says that it is over.
    wait_for(host.inhibitors, "the lock to be taken again", host.SECONDS)
    cluster.wait_ready()
    wait_for(
        lambda: (
            {one.rpartition(" ")[2] for one in reasons(cluster)} == {"event", "cancellation"}
        ),
        "both events", host.SECONDS,
    )  # fmt: skip
    cluster.run("later", "sleep 3600")
    cluster.remove("later")
