from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kubeletpy.api.status import ContainerState, ContainerStateRunning, ContainerStatus, PodStatus
from kubeletpy.pods.checkpoint import Checkpoints
from kubeletpy.pods.restore import seeds, terminal_of
from kubeletpy.pods.state import Outcome, Terminal

from .build import PROBE, container, pod


def test_round_trip(tmp_path: Path) -> None:
    points, made = Checkpoints(tmp_path / "c"), pod("a")
    points.save_pod(made)
    points.save_status("u1", PodStatus(phase="Running", reason="x"))
    points.save_ending("u1", 12.5)
    saved = Checkpoints(tmp_path / "c").load()["u1"]
    assert points.get("u1") == saved
    assert saved.pod == made
    assert saved.status is not None
    assert saved.status.phase == "Running"
    assert saved.ending_deadline == 12.5
    assert ((tmp_path / "c" / "u1").stat().st_mode & 0o777) == 0o700
    assert ((tmp_path / "c" / "u1" / "pod.json").stat().st_mode & 0o777) == 0o600
    points.remove("u1")
    points.remove("u1")
    assert points.load() == {}
    assert points.get("u1") is None


def test_status_of_a_removed_pod_makes_no_directory(tmp_path: Path) -> None:
    points = Checkpoints(tmp_path)
    points.save_status("u1", PodStatus())
    points.save_ending("u1", 1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 9}', b'{"version":1,"pod":{"x":1}}']
)
def test_corrupt_checkpoint_is_set_aside(tmp_path: Path, content: bytes) -> None:
    points = Checkpoints(tmp_path)
    points.save_pod(pod("a"))
    (tmp_path / "u1" / "pod.json").write_bytes(content)
    assert points.get("u1") is None
    assert points.load() == {}
    assert [entry.name for entry in tmp_path.iterdir()] == ["u1.corrupt"]
    assert points.load() == {}


@pytest.mark.parametrize("entries", [[], ["status.json"], ["pod.json.0a1b.tmp", "ending.json"]])
def test_what_was_cut_off_while_it_was_made_or_removed_goes(
    tmp_path: Path, entries: list[str]
) -> None:
    (tmp_path / "u1").mkdir()
    for name in entries:
        (tmp_path / "u1" / name).write_text("{}")
    assert Checkpoints(tmp_path).load() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_is_cut_off_forgets_the_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    points = Checkpoints(tmp_path)
    points.save_pod(pod("a"))
    points.save_status("u1", PodStatus(phase="Running"))
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        points.remove("u1")
    monkeypatch.undo()
    assert points.load() == {}
    assert list(tmp_path.iterdir()) == []


def test_corrupt_status_costs_only_the_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    points = Checkpoints(tmp_path)
    points.save_pod(pod("a"))
    (tmp_path / "u1" / "status.json").write_bytes(b"\xff")
    (tmp_path / "u1" / "ending.json").write_bytes(b"{}")
    saved = points.load()["u1"]
    assert saved.status is None
    assert saved.ending_deadline is None
    told = [record.getMessage() for record in caplog.records]
    assert told == ["damaged part of a checkpoint ignored; it is written anew"] * 2


@pytest.mark.parametrize("uid", ["", ".", "..", "../x", "a/b"])
def test_uid_never_leaves_the_directory(tmp_path: Path, uid: str) -> None:
    with pytest.raises(ValueError, match="directory"):
        Checkpoints(tmp_path).remove(uid)


def status_of(name: str, *, running: bool, started: bool, ready: bool) -> ContainerStatus:
    state = ContainerState(running=ContainerStateRunning()) if running else ContainerState()
    return ContainerStatus(
        name=name,
        state=state,
        started=started,
        ready=ready,
        restart_count=0,
        image=name,
        image_id="",
        container_id=f"kubeletpy://{name}-id",
    )


def test_probes_of_adopted_containers_are_seeded() -> None:
    made = pod(container("a", readiness_probe=PROBE, startup_probe=PROBE), container("b"))
    statuses = [
        status_of("a", running=True, started=True, ready=True),
        status_of("b", running=True, started=True, ready=True),
    ]
    found = seeds(made, PodStatus(container_statuses=statuses))
    assert found["a-id"].readiness is Outcome.SUCCESS
    assert found["a-id"].startup is Outcome.SUCCESS
    assert found["b-id"].readiness is Outcome.UNKNOWN


def test_what_was_not_ready_is_not_seeded_ready() -> None:
    made = pod(container("a", readiness_probe=PROBE))
    status = PodStatus(container_statuses=[status_of("a", running=True, started=True, ready=False)])
    assert seeds(made, status)["a-id"].readiness is Outcome.UNKNOWN
    gone = PodStatus(container_statuses=[status_of("a", running=False, started=False, ready=False)])
    assert seeds(made, gone) == {}


def test_only_final_phases_are_ends() -> None:
    assert terminal_of(PodStatus(phase="Running")) is None
    assert terminal_of(PodStatus(phase="Failed", reason="Evicted")) == Terminal("Failed", "Evicted")
