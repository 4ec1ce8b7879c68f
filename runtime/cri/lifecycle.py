"""What happens to containers outside of a call: exits, lost shims; and how they are ended."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from kubeletpy_common.cgroups import CgroupError
from kubeletpy_common.logs import event
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.bundle import read_exit
from runtime.cri.errors import CleanupError
from runtime.cri.runtime import Runtime, describe
from runtime.cri.statuses import container_status, sandbox_status, visible_container
from runtime.shim.client import ShimClient, ShimError
from runtime.shim.messages import ExitRecord
from runtime.state import records
from runtime.state.records import ContainerState
from runtime.state.store import Container, Pod

_log = logging.getLogger("runtime")

_WRITE_SECONDS = 1.0  # between two tries to write to a full disk
KILL_SECONDS = 10.0
"""How long processes have to end after SIGKILL; longer means that the kernel holds them."""

SHIM_DIED = "the shim of the pod died, and the kernel killed its containers; see the node's log"


@dataclass(frozen=True)
class Lost:
    """What is reported of a container whose exit nobody saw."""

    exit_code: int
    reason: str
    message: str


KILLED: Final = Lost(records.KILLED_CODE, "Error", SHIM_DIED)


async def connect(runtime: Runtime, pod: Pod) -> ShimClient:
    """Connect to the pod's shim, and hear of its containers from now on.

    Raises:
        OSError: nobody listens.
    """
    socket = runtime.sandbox_directory(pod.id) / "shim.sock"
    shim = await ShimClient.connect(
        socket,
        on_exit=lambda record: on_exit(runtime, pod, record),
        on_lost=lambda: on_lost(runtime, pod),
        on_notice=lambda container, text: event(
            _log,
            logging.WARNING,
            "notice of a shim",
            **describe(pod),
            container_id=container[:12],
            text=text,
        ),
    )
    pod.shim = shim
    return shim


def on_exit(runtime: Runtime, pod: Pod, exit_record: ExitRecord) -> None:
    """Take note of the end of a container's first process."""
    container = pod.containers.get(exit_record.container_id)
    if container is None:
        return
    if container.record.state is ContainerState.STARTING:
        # It ended before the answer to its start arrived; StartContainer takes it from here.
        container.early_exit = exit_record
    elif container.record.state is ContainerState.RUNNING:
        apply_exit(runtime, container, exit_record)


def apply_exit(runtime: Runtime, container: Container, exit_record: ExitRecord) -> None:
    """Write the exit down, tell the clients, and clean up behind the process."""
    record = records.exited(
        container.record,
        exit_code=exit_record.exit_code,
        at=exit_record.exited_at_ns,
        oom_killed=exit_record.oom_killed,
    )
    finish(runtime, container, record)


def finish(runtime: Runtime, container: Container, record: records.ContainerRecord) -> None:
    """Take over the record of a container that has ended, however that was."""
    if not runtime.store.note_container(container, record):
        write_later(runtime)
    event(_log, logging.INFO, "container ended", **describe(container.pod, container),
          exit_code=record.exit_code, reason=record.reason)  # fmt: skip
    container.cleanup = runtime.in_background(
        sweep(runtime, container), f"sweep {container.id[:12]}"
    )
    publish(runtime, container.pod, container.id, cri.CONTAINER_STOPPED_EVENT)


def on_lost(runtime: Runtime, pod: Pod) -> None:
    """Report a pod whose shim died: its containers went with it, and it can only be removed."""
    pod.shim = None
    for container in list(pod.containers.values()):
        if container.running:
            conclude(runtime, container, KILLED)
    if pod.stopping or not pod.ready:
        return
    event(_log, logging.ERROR, "the shim of a pod died", **describe(pod))
    take_down(runtime, pod)


def take_down(runtime: Runtime, pod: Pod) -> None:
    """Mark a pod, whose containers have ended, as down."""
    if not runtime.store.note_pod(pod, records.down(pod.record)):
        write_later(runtime)
    publish(runtime, pod, pod.id, cri.CONTAINER_STOPPED_EVENT)


def write_later(runtime: Runtime) -> None:
    """Have what the disk refused written once it has room; the facts are taken over already."""
    name = "write to the state file later"
    if all(getattr(task, "get_name", str)() != name for task in runtime.background):
        event(_log, logging.ERROR, "the state file cannot be written: free space on its disk; "
              "until then a restarted daemon asks the shims again")  # fmt: skip
        runtime.in_background(_keep_writing(runtime), name)


async def _keep_writing(runtime: Runtime) -> None:
    while True:
        if runtime.store.write_pending():
            break
        await asyncio.sleep(_WRITE_SECONDS)
    event(_log, logging.INFO, "the state file can be written again")


def conclude(runtime: Runtime, container: Container, end: Lost) -> None:
    """Write down the end of a running container that no shim will tell of any more.

    What its shim wrote before its own end counts; without that, ``end`` is what is known.
    """
    exit_record = read_exit(runtime.container_directory(container.id))
    if exit_record is not None:
        if container.record.state is ContainerState.STARTING:
            started = records.running(
                container.record, pid=0, started_at=container.record.created_at
            )
            runtime.store.update_container(container, started)
        apply_exit(runtime, container, exit_record)
        return
    record = records.lost(container.record, exit_code=end.exit_code, reason=end.reason,
                          message=end.message, at=time.time_ns())  # fmt: skip
    finish(runtime, container, record)


async def sweep(runtime: Runtime, container: Container) -> None:
    """Kill what the container's first process left behind, and remove its cgroup."""
    cgroup = runtime.cgroup_of(container)
    try:
        if cgroup.processes():
            await asyncio.to_thread(cgroup.kill, KILL_SECONDS)
        await asyncio.to_thread(cgroup.remove)
    except CgroupError as error:
        # Whoever removes the container tries again, and reports it.
        event(_log, logging.WARNING, "the container's cgroup is not empty",
              **describe(container.pod, container), error=error)  # fmt: skip


async def kill_container(runtime: Runtime, container: Container) -> None:
    """End a container by SIGKILL, with all that runs in its cgroup.

    Raises:
        CleanupError: the kernel did not let go of it in time.
    """
    shim = container.pod.shim
    answers = shim is not None
    if container.running and shim is not None:
        try:
            await shim.kill(container.id, signal.SIGKILL, all=True)
        except ShimError as error:
            answers = False
            # The cgroup reaches the processes as well; a lost shim reports them by itself.
            event(_log, logging.WARNING, "kill through the shim failed",
                  **describe(container.pod, container), error=error)  # fmt: skip
    if container.running and answers:
        await wait_exited(container, KILL_SECONDS)
    if container.running:
        await sweep(runtime, container)
    if container.running:
        # Who does not answer will not tell of the end either: the empty cgroup tells it.
        if not answers and not runtime.cgroup_of(container).processes():
            conclude(runtime, container, KILLED)
        elif not await wait_exited(container, KILL_SECONDS):
            raise CleanupError(
                f"container {container.id} did not end within {2 * KILL_SECONDS:g} s after "
                "SIGKILL: the kernel holds one of its processes; try again later"
            )
    await swept(container)


async def wait_exited(container: Container, timeout: float) -> bool:
    """Wait until the container has ended; return False if that takes longer than ``timeout``."""
    try:
        async with asyncio.timeout(timeout):
            await container.exited.wait()
    except TimeoutError:
        return False
    return True


async def swept(container: Container) -> None:
    """Wait for the cleaning behind an ended container."""
    if container.cleanup is not None:
        # The waiter may be cancelled, the cleaning goes on; its failure is in the log.
        await asyncio.wait([container.cleanup])


async def attempt_all(what: str, steps: list[tuple[str, Callable[[], Awaitable[object]]]]) -> None:
    """Do every step even if one before it fails.

    Raises:
        CleanupError: listing the steps that failed and why; all were tried.
    """
    failures: list[str] = []
    for name, step in steps:
        try:
            await step()
        except Exception as error:
            failures.append(f"{name}: {error}")
    if failures:
        raise CleanupError(f"{what}: {'; '.join(failures)}")


def publish(
    runtime: Runtime, pod: Pod, subject: str, kind: cri.ContainerEventType.ValueType
) -> None:
    """Tell the clients of GetContainerEvents.

    Args:
        runtime: the daemon.
        pod: the pod.
        subject: id of the container, or of the pod itself (as with containerd).
        kind: what happened.
    """
    runtime.events.publish(lambda: make_event(runtime, pod, subject, kind))


def make_event(
    runtime: Runtime, pod: Pod, subject: str, kind: cri.ContainerEventType.ValueType
) -> cri.ContainerEventResponse:
    """Return an event with the state of the whole pod at this moment."""
    return cri.ContainerEventResponse(
        container_id=subject,
        container_event_type=kind,
        created_at=time.time_ns(),
        pod_sandbox_status=sandbox_status(pod),
        containers_statuses=pod_container_statuses(runtime, pod),
    )


def pod_container_statuses(runtime: Runtime, pod: Pod) -> list[cri.ContainerStatus]:
    """Return the status of each container of the pod."""
    return [
        container_status(container, runtime.images.get(container.record.image_id))
        for container in pod.containers.values()
        if visible_container(container)
    ]
