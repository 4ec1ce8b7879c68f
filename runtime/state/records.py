"""The rows of the runtime's state, and the only ways in which they may change.

A sandbox::

    CREATING --ready()--> READY --down()--> NOT_READY --(row deleted)
        |                                       ^
        +--(undone, row deleted)                +-- shim died, machine rebooted, StopPodSandbox

A container::

    CREATING --created()--> CREATED --starting()--> STARTING --running()--> RUNNING
        |                      |                       |                       |
        +--(undone, row        +--(removed without     +--start_failed()--+    +--exited()--+
        |   deleted)               being started)      |    (code 128)    |    |            |
                                                       +--lost()--------> EXITED <----------+
                                                                          ^
                                                        RUNNING --lost()--+
    lost(): its shim died (code 137), or the machine was rebooted (code 255)

CREATING and STARTING exist so that a daemon that was killed in the middle of a step finds out
after its restart which step that was. They never show in CRI as such: CREATING is invisible and
STARTING is CONTAINER_CREATED.

Every function here is pure: it takes a record and returns the next one.
"""

from __future__ import annotations

import enum

import msgspec

from runtime.handlers.external import ExternalRuntime
from runtime.shim.messages import Rootfs

START_ERROR_CODE = 128  # what containerd reports for a container that could not be started
KILLED_CODE = 128 + 9
UNKNOWN_CODE = 255  # what containerd reports when nobody saw the exit

_MESSAGE_LIMIT = 4096  # bytes of an error message kept in a record


class StateError(Exception):
    """A record was asked for a change that its state does not allow, or the file is unusable."""


class SandboxState(enum.StrEnum):
    """Where a pod sandbox is in its life."""

    CREATING = "creating"
    READY = "ready"
    NOT_READY = "not-ready"


class ContainerState(enum.StrEnum):
    """Where a container is in its life."""

    CREATING = "creating"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one pod sandbox, apart from its CRI config.

    Times are in nanoseconds since the epoch. ``cgroup`` is the parent of the containers' cgroups;
    ``cgroup_owned`` says that the runtime made it and so has to remove it. ``namespaces`` maps
    OCI names to the paths at which the pod's namespaces are pinned. ``boot_id`` is that of the
    boot in which the sandbox was made. ``resources`` and ``overhead`` are what the kubelet told of
    the pod after it was made, as LinuxContainerResources of protobuf; empty if it told nothing.
    ``runtime_handler`` is the name that the client gave, ``external`` the OCI runtime that it stood
    for at that time, None for the built-in one.
    ``removing``: parts of it may be gone already; a restarted daemon removes the rest.
    ``protocol``: version of what its shim speaks; the first one was not written down.
    """

    id: str
    name: str
    state: SandboxState
    created_at: int
    boot_id: str
    cgroup: str
    cgroup_owned: bool = False
    runtime_handler: str = ""
    shim_pid: int = 0
    namespaces: dict[str, str] = {}
    ips: list[str] = []
    resources: bytes = b""
    overhead: bytes = b""
    external: ExternalRuntime | None = None
    removing: bool = False
    protocol: int = 1


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one container, apart from its CRI config.

    Times are in nanoseconds since the epoch, 0 for "not yet". ``image_id`` is the digest of the
    image's config, ``stop_signal`` a signal number, ``groups`` the whole supplementary set,
    ``resources`` the limits if they were changed later (LinuxContainerResources of protobuf),
    ``removing`` as that of a sandbox.
    """

    id: str
    sandbox_id: str
    name: str
    state: ContainerState
    created_at: int
    cgroup: str
    image_id: str
    log_path: str = ""
    stop_signal: int = 15
    uid: int = 0
    gid: int = 0
    groups: list[int] = []
    rootfs: Rootfs | None = None
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    resources: bytes = b""
    removing: bool = False


def with_process(
    record: SandboxRecord, *, shim_pid: int, namespaces: dict[str, str]
) -> SandboxRecord:
    """Return the sandbox, still being created, with its shim and pinned namespaces."""
    _expect(record.id, record.state, SandboxState.CREATING)
    return msgspec.structs.replace(record, shim_pid=shim_pid, namespaces=namespaces)


def ready(record: SandboxRecord, *, ips: list[str]) -> SandboxRecord:
    """Return the sandbox as complete, with its addresses."""
    _expect(record.id, record.state, SandboxState.CREATING)
    return msgspec.structs.replace(record, state=SandboxState.READY, ips=ips)


def removing_sandbox(record: SandboxRecord) -> SandboxRecord:
    """Return the sandbox as stopped, with the mark that its removal has begun."""
    return msgspec.structs.replace(record, state=SandboxState.NOT_READY, removing=True)


def removing_container(record: ContainerRecord) -> ContainerRecord:
    """Return the container with the mark that its removal has begun."""
    return msgspec.structs.replace(record, removing=True)


def down(record: SandboxRecord) -> SandboxRecord:
    """Return the sandbox as stopped; what it had stays written down until it is removed."""
    return msgspec.structs.replace(record, state=SandboxState.NOT_READY)


def created(record: ContainerRecord) -> ContainerRecord:
    """Return the container as complete and ready to be started."""
    _expect(record.id, record.state, ContainerState.CREATING)
    return msgspec.structs.replace(record, state=ContainerState.CREATED)


def starting(record: ContainerRecord) -> ContainerRecord:
    """Return the container as being started: its shim may or may not know it already."""
    _expect(record.id, record.state, ContainerState.CREATED)
    return msgspec.structs.replace(record, state=ContainerState.STARTING)


def running(record: ContainerRecord, *, pid: int, started_at: int) -> ContainerRecord:
    """Return the container as running with ``pid`` (in the host's PID namespace)."""
    _expect(record.id, record.state, ContainerState.STARTING)
    return msgspec.structs.replace(
        record, state=ContainerState.RUNNING, pid=pid, started_at=started_at
    )


def start_failed(record: ContainerRecord, *, message: str, at: int) -> ContainerRecord:
    """Return the container as exited because its process could not be started.

    Code 128 and reason ``StartError`` are what containerd reports then.
    """
    _expect(record.id, record.state, ContainerState.STARTING)
    return msgspec.structs.replace(
        record,
        state=ContainerState.EXITED,
        finished_at=at,
        exit_code=START_ERROR_CODE,
        reason="StartError",
        message=_bounded(message),
        pid=0,
    )


def exited(
    record: ContainerRecord, *, exit_code: int, at: int, oom_killed: bool
) -> ContainerRecord:
    """Return the container as exited.

    The reasons are those of the CRI documentation: ``OOMKilled`` if the kernel's OOM killer hit
    it, whatever the code, else ``Completed`` for code 0 and ``Error`` for any other.
    """
    _expect(record.id, record.state, ContainerState.RUNNING)
    reason = "OOMKilled" if oom_killed else "Completed" if exit_code == 0 else "Error"
    return msgspec.structs.replace(
        record,
        state=ContainerState.EXITED,
        finished_at=max(at, record.started_at),
        exit_code=exit_code,
        reason=reason,
        pid=0,
    )


def lost(
    record: ContainerRecord, *, exit_code: int, reason: str, message: str, at: int
) -> ContainerRecord:
    """Return the container as exited although nobody saw its exit code."""
    _expect(record.id, record.state, ContainerState.STARTING, ContainerState.RUNNING)
    return msgspec.structs.replace(
        record,
        state=ContainerState.EXITED,
        finished_at=at,
        exit_code=exit_code,
        reason=reason,
        message=_bounded(message),
        pid=0,
    )


def _expect(subject: str, state: enum.StrEnum, *allowed: enum.StrEnum) -> None:
    if state not in allowed:
        wanted = " or ".join(allowed)
        raise StateError(f"{subject} is {state}, it would have to be {wanted} for this change")


def _bounded(message: str) -> str:
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"
