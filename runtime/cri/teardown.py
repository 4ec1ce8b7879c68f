"""Taking pods and containers apart: every step can be repeated, and none stops the others.

The same functions serve the calls that stop and remove, the undoing of what failed half-way, and
the recovery after a crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from kubeletpy_common.cgroups import CgroupError
from runtime.cri.lifecycle import (
    KILL_SECONDS,
    attempt_all,
    connect,
    kill_container,
    swept,
    write_later,
)
from runtime.cri.runtime import Runtime
from runtime.shim.client import ShimError
from runtime.snapshots.trees import remove_entry
from runtime.spawner.sandbox import destroy_sandbox_mounts
from runtime.state.store import Container, Pod


async def stop_pod(runtime: Runtime, pod: Pod) -> None:
    """End all containers, the shim, the network and the namespaces of a pod.

    Raises:
        CleanupError: listing what could not be done.
    """
    pod.stopping = True
    directory = runtime.sandbox_directory(pod.id)
    pinned = pod.record.namespaces.get("network")

    async def end_containers() -> None:
        running = [c for c in pod.containers.values() if c.running or c.cleanup]
        await asyncio.gather(*(kill_container(runtime, container) for container in running))

    async def end_network() -> None:
        await runtime.network.detach(pod.id, Path(pinned) if pinned else None)

    async def unmount() -> None:
        destroy_sandbox_mounts(directory)

    await attempt_all(
        f"stop pod sandbox {pod.id}",
        [
            ("end its containers", end_containers),
            ("end its shim", lambda: end_shim(runtime, pod)),
            ("detach its network", end_network),
            ("unmount its namespaces", unmount),
        ],
    )


async def end_shim(runtime: Runtime, pod: Pod) -> None:
    """End the pod's shim, whether this daemon is connected to it or not.

    Raises:
        ShimError: it does not answer; it is then killed all the same.
    """
    shim = pod.shim
    if shim is None and (runtime.sandbox_directory(pod.id) / "shim.sock").exists():
        try:
            shim = await connect(runtime, pod)
        except (OSError, TimeoutError):
            # Nobody listens: it has ended, or it hangs and is killed below.
            shim = None
    pid = pod.record.shim_pid
    pidfd = _shim_pidfd(pid, pod.id)
    try:
        if shim is not None:
            await shim.shutdown()
    except ShimError:
        if pidfd is None:
            raise
    finally:
        pod.shim = None
        if pidfd is not None:
            try:
                await _end(pidfd)
            finally:
                os.close(pidfd)


def _shim_pidfd(pid: int, sandbox_id: str) -> int | None:
    """Return a descriptor of the shim's process, or None if that process is another by now."""
    if pid <= 0:
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The descriptor keeps the pid from reuse, so what is read now is about the same process.
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        title = b""
    if sandbox_id.encode() in title:
        return descriptor
    os.close(descriptor)
    return None


async def _end(pidfd: int) -> None:
    """Wait for a process to end by itself, then by force."""
    if await _ended(pidfd, 2.0):
        return
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    await _ended(pidfd, KILL_SECONDS)


async def _ended(pidfd: int, timeout: float) -> bool:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    # A pidfd becomes readable when its process ends (pidfd_open(2)).
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


async def destroy_pod(runtime: Runtime, pod: Pod) -> None:
    """Stop a pod and remove every trace of it, its row last.

    Raises:
        CleanupError: something is left, and the row with it, so that a further try can mend it.
    """
    directory = runtime.sandbox_directory(pod.id)

    async def remove_containers() -> None:
        for container in list(pod.containers.values()):
            await destroy_container(runtime, container)

    async def remove_cgroup() -> None:
        if pod.record.cgroup_owned:
            await asyncio.to_thread(runtime.cgroups.cgroup(pod.record.cgroup).remove)

    await attempt_all(
        f"remove pod sandbox {pod.id}",
        [
            ("stop it", lambda: stop_pod(runtime, pod)),
            ("remove its containers", remove_containers),
            ("remove its cgroup", remove_cgroup),
            ("remove its directory", lambda: remove_tree(directory)),
        ],
    )
    if not runtime.store.remove_pod(pod):
        write_later(runtime)
    remove_common_cgroup(runtime)


async def destroy_container(runtime: Runtime, container: Container) -> None:
    """Kill a container if it runs, and remove every trace of it, its row last.

    Raises:
        CleanupError: something is left, and the row with it, so that a further try can mend it.
    """
    cgroup = runtime.cgroup_of(container)

    async def end() -> None:
        if container.running:
            await kill_container(runtime, container)
        await swept(container)

    async def forget() -> None:
        if container.pod.shim is not None:
            await container.pod.shim.forget(container.id)

    async def remove_external_state() -> None:
        # The runtime's own clean-up did that, unless its shim died before.
        external = container.pod.record.external
        if external is not None:
            directory = runtime.sandbox_directory(container.pod.id)
            await remove_tree(Path(external.command_line(directory).root) / container.id)

    async def remove_cgroup() -> None:
        if cgroup.exists():
            await asyncio.to_thread(cgroup.kill, KILL_SECONDS)
            await asyncio.to_thread(cgroup.remove)

    async def remove_snapshot() -> None:
        await asyncio.to_thread(runtime.snapshots.remove, container.id)

    await attempt_all(
        f"remove container {container.id}",
        [
            ("end it", end),
            ("have the shim forget it", forget),
            ("remove its external runtime's state", remove_external_state),
            ("remove its cgroup", remove_cgroup),
            ("remove its root file system", remove_snapshot),
            ("remove its volumes", lambda: remove_tree(runtime.volumes_directory(container.id))),
            ("remove its directory", lambda: remove_tree(
                runtime.container_directory(container.id))),
        ],
    )  # fmt: skip
    if not runtime.store.remove_container(container):
        write_later(runtime)


def remove_common_cgroup(runtime: Runtime) -> None:
    """Remove the parent of the pods' cgroups that the runtime chose itself, if no pod is left.

    Nothing awaits between the look and the removal, so no pod can begin in it meanwhile. It is
    called once more at the daemon's stop: a daemon that died right after its last pod's removal
    did not come to it.
    """
    if runtime.store.pods():
        return
    try:
        runtime.cgroups.cgroup(runtime.config.cgroups.parent_path).remove(
            recursive=False, timeout=0
        )
    except CgroupError:
        # Somebody else uses it as well; it is empty of ours.
        pass


async def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it; one that is gone is fine.

    Raises:
        OSError: something in it cannot be removed.
    """
    if directory.exists():
        await asyncio.to_thread(_remove_tree, directory)


def _remove_tree(directory: Path) -> None:
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_entry(parent, directory.name)
    finally:
        os.close(parent)
