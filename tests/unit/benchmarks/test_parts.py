"""Which parts of the benchmark run."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import PARTS, options, parts_of
from benchmarks.peers import Peer


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], list(PARTS)),
        (["--only", "pull", "--only", "memory"], ["memory", "pull"]),
        (["--cgroup-driver", "systemd"], ["lifecycle", "burst"]),
        (["--cgroup-driver", "systemd", "--only", "burst"], ["burst"]),
    ],
)
def test_parts_are_run_in_their_order(arguments: list[str], parts: list[str]) -> None:
    assert parts_of(options(arguments)) == parts


def test_what_systemd_cannot_show_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["--cgroup-driver", "systemd", "--only", "memory"])
    assert "--only memory looks into the cgroup" in capsys.readouterr().err


def test_a_slice_of_a_pod_is_named_by_those_above_it() -> None:
    peer = Peer("kubeletpy", "unix:///s", "/kpbench-1a/kubeletpy", "systemd")
    assert peer.pod_cgroup("pod1") == "/kpbench1akubeletpy.slice/kpbench1akubeletpy-pod1.slice"
