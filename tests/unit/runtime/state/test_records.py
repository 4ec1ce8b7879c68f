"""The state machines of pods and containers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.state import records
from runtime.state.records import (
    ContainerRecord,
    ContainerState,
    SandboxRecord,
    SandboxState,
    StateError,
)


def container(state: ContainerState, **fields: object) -> ContainerRecord:
    values: dict[str, object] = {
        "id": "c", "sandbox_id": "s", "name": "n", "created_at": 1, "cgroup": "/c",
        "image_id": "i", **fields,
    }  # fmt: skip
    return ContainerRecord(state=state, **values)  # type: ignore[arg-type]


CHANGES: dict[str, Callable[[ContainerRecord], ContainerRecord]] = {
    "created": records.created,
    "starting": records.starting,
    "running": lambda r: records.running(r, pid=7, started_at=2),
    "start_failed": lambda r: records.start_failed(r, message="m", at=3),
    "exited": lambda r: records.exited(r, exit_code=0, at=3, oom_killed=False),
    "lost": lambda r: records.lost(r, exit_code=255, reason="Unknown", message="m", at=3),
}
ALLOWED = {
    ("created", ContainerState.CREATING): ContainerState.CREATED,
    ("starting", ContainerState.CREATED): ContainerState.STARTING,
    ("running", ContainerState.STARTING): ContainerState.RUNNING,
    ("start_failed", ContainerState.STARTING): ContainerState.EXITED,
    ("exited", ContainerState.RUNNING): ContainerState.EXITED,
    ("lost", ContainerState.STARTING): ContainerState.EXITED,
    ("lost", ContainerState.RUNNING): ContainerState.EXITED,
}


@pytest.mark.parametrize("state", ContainerState)
@pytest.mark.parametrize("change", CHANGES)
def test_changes_happen_in_their_states_only(change: str, state: ContainerState) -> None:
    record = container(state)
    wanted = ALLOWED.get((change, state))
    if wanted is None:
        with pytest.raises(StateError):
            CHANGES[change](record)
    else:
        assert CHANGES[change](record).state is wanted


@pytest.mark.parametrize(
    ("code", "oom", "reason"),
    [
        (0, False, "Completed"),
        (1, False, "Error"),
        (137, True, "OOMKilled"),
        (0, True, "OOMKilled"),
    ],
)
def test_reasons_of_an_exit(code: int, oom: bool, reason: str) -> None:
    record = container(ContainerState.RUNNING, started_at=100, pid=7)
    ended = records.exited(record, exit_code=code, at=200, oom_killed=oom)
    assert (ended.exit_code, ended.reason, ended.finished_at, ended.pid) == (code, reason, 200, 0)


def test_an_end_is_never_before_the_start() -> None:
    record = container(ContainerState.RUNNING, started_at=100)
    assert records.exited(record, exit_code=0, at=50, oom_killed=False).finished_at == 100


def test_a_failed_start_has_the_code_of_containerd_and_a_bounded_message() -> None:
    record = records.start_failed(container(ContainerState.STARTING), message="m" * 9999, at=5)
    assert (record.exit_code, record.reason) == (128, "StartError")
    assert len(record.message) == 4096


def test_a_sandbox_becomes_ready_once() -> None:
    record = SandboxRecord(
        id="s", name="n", state=SandboxState.CREATING, created_at=1, boot_id="b", cgroup="/c"
    )
    made = records.with_process(record, shim_pid=9, namespaces={"network": "/n"})
    ready = records.ready(made, ips=["10.0.0.1"])
    assert (ready.state, ready.shim_pid, ready.ips) == (SandboxState.READY, 9, ["10.0.0.1"])
    with pytest.raises(StateError):
        records.ready(ready, ips=[])
    assert records.down(ready).state is SandboxState.NOT_READY
