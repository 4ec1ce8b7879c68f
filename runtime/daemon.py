"""The daemon: boots in an order that matters, serves, and goes without taking the pods along.

1. lock the directories, 2. start the spawner (before any thread: gRPC has some), 3. open what was
written down and recover, 4. serve. On SIGTERM or SIGINT: stop accepting, let calls end, close.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubeletpy_common import logs, watchdog
from kubeletpy_common.linux import processes
from kubeletpy_common.readiness import tell_ready, tell_stopping
from kubeletpy_common.releases import ReleaseError, Releases, own_release
from runtime.config import Config
from runtime.preflight import require, run_checks
from runtime.spawner.client import Spawner

if TYPE_CHECKING:
    import grpc

    from runtime.cri.runtime import Runtime
    from runtime.network.chosen import ChosenNetwork

_log = logging.getLogger("runtime")

# Clients of the protocol answer and ask with up to 16 MiB; a response has room for two streams
# of output and some names.
_MAX_MESSAGE = 17 << 20
_LOCK_NAME = "lock"
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
    # Seconds until gRPC itself refuses a call that it has not handed over, as CANCELLED; by default
    # 30, which a hundred pods at once take on a slow machine. Callers have deadlines of their own.
    ("grpc.server_max_unrequested_time_in_server", 3600),
)
"""Of the server that speaks CRI."""


class DaemonError(Exception):
    """The daemon cannot start; the text says why and what to do, in one line."""


def serve(config: Config) -> None:
    """Run the daemon until it is told to stop.

    Raises:
        MissingRequirementError: the machine lacks something.
        DaemonError: the directories, the socket or the state cannot be used.
    """
    logs.configure(config.log_level)
    # gRPC logs each event loop it sees at debug level.
    logging.getLogger("grpc").setLevel(logging.INFO)
    require(run_checks(config))
    _require_takeover(config)
    # Credentials of registries and tokens of sessions belong into no core dump.
    processes.set_dumpable(False)
    with ExitStack() as resources:
        directory = config.root
        try:
            for directory in (config.root, config.state):
                _make_private(directory)
                resources.enter_context(_locked(directory))
            directory = config.socket.parent
            _make_private(directory, shared=True)
        except OSError as error:
            raise DaemonError(cannot_prepare(directory, error)) from error
        asyncio.run(_run(config))


def _require_takeover(config: Config) -> None:
    """Go on only if this version knows what an earlier one left, before anything is touched."""
    from runtime.hostfacts import boot_id
    from runtime.state import takeover
    from runtime.state.records import StateError

    try:
        takeover.require(config.root / "state.db", boot_id())
    except (StateError, OSError) as error:
        raise DaemonError(str(error)) from error


@dataclass
class _Stopper:
    """Remembers that a signal came."""

    stopped: asyncio.Event

    def stop(self, name: str) -> None:
        """Begin the shutdown."""
        logs.event(_log, logging.INFO, "stopping; pods go on running", signal=name)
        self.stopped.set()


async def _run(config: Config) -> None:
    stopper = _Stopper(asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopper.stop, number.name)
    async with AsyncExitStack() as stack:
        spawner = Spawner(config.state / "spawner.lock")
        await _start(spawner)
        stack.push_async_callback(spawner.close)
        runtime = await _open(config, spawner, stack)
        server = await _listen(config, runtime)
        logs.event(_log, logging.INFO, "ready", address=config.address, pid=os.getpid(),
                   cgroup_version=runtime.cgroups.version,
                   cgroup_driver=config.cgroups.driver,
                   pods=len(runtime.store.pods()))  # fmt: skip
        if runtime.host.lowest_oom_score_adj > -1000:
            logs.event(_log, logging.WARNING, "CAP_SYS_RESOURCE is missing: oom_score_adj of "
                       "containers is kept from going lower than the runtime's own",
                       lowest=runtime.host.lowest_oom_score_adj)  # fmt: skip
        tell_ready(f"serves CRI at {config.address}")
        alive = asyncio.create_task(watchdog.run(), name="watchdog")
        if config.cgroups.driver == "systemd":
            stack.push_async_callback(_cancel, _follow_systemd(runtime))
        collecting = asyncio.create_task(_collect_releases(), name="collect releases")
        stack.callback(collecting.cancel)
        await stopper.stopped.wait()
        alive.cancel()
        tell_stopping()
        runtime.events.close()
        await runtime.streaming.close()
        await server.stop(config.limits.shutdown_seconds)
        await _drain(runtime)
        _remove_empty_cgroup(runtime)
        config.socket.unlink(missing_ok=True)
    logs.event(_log, logging.INFO, "stopped")


def _follow_systemd(runtime: Runtime) -> asyncio.Task[None]:
    from runtime.cri.reloads import follow_reloads

    return asyncio.create_task(follow_reloads(runtime), name="reloads of systemd")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _collect_releases() -> None:
    """Remove releases of earlier upgrades whose last pod has ended."""
    own = own_release()
    if own is None:
        return
    try:
        for name in await asyncio.to_thread(Releases(own.parent.parent).collect):
            logs.event(_log, logging.INFO, "removed a release that nothing uses", release=name)
    except (ReleaseError, OSError) as error:
        logs.event(_log, logging.WARNING, "old releases stay for now", error=error)


async def _start(spawner: Spawner) -> None:
    try:
        await spawner.start()
    except OSError as error:
        raise DaemonError(f"start the spawner: {error}") from error


def _remove_empty_cgroup(runtime: Runtime) -> None:
    from runtime.cri.teardown import remove_common_cgroup

    remove_common_cgroup(runtime)


async def _open(config: Config, spawner: Spawner, stack: AsyncExitStack) -> Runtime:
    # Libraries with threads of their own come after the spawner's start.
    from kubeletpy_common.cgroups import CgroupError
    from runtime.cri.cgroups import open_cgroups
    from runtime.cri.events import EventBroker
    from runtime.cri.recovery import recover
    from runtime.cri.runtime import Runtime
    from runtime.hostfacts import boot_id, read_host_facts
    from runtime.images.errors import ImageError
    from runtime.images.service import ImageStore
    from runtime.network.errors import NetworkError
    from runtime.parts import registry_config
    from runtime.state.records import StateError
    from runtime.state.store import Store
    from runtime.streaming.server import StreamingServer

    try:
        cgroups = open_cgroups(config.cgroups)
        store = Store.open(config.root / "state.db")
        stack.callback(store.close)
        images = ImageStore(config.root, registry_config(config))
        await images.open()
        stack.push_async_callback(images.close)
        network = _open_network(config)
        stack.push_async_callback(network.close)
        for directory in (config.state / "sandboxes", config.state / "containers",
                          config.root / "volumes"):  # fmt: skip
            directory.mkdir(mode=0o700, exist_ok=True)
        runtime = Runtime(
            config=config,
            store=store,
            spawner=spawner,
            images=images,
            snapshots=images.snapshots,
            network=network,
            cgroups=cgroups,
            events=EventBroker(config.limits.event_queue),
            streaming=StreamingServer(config.streaming),
            host=read_host_facts(cgroups.version),
            boot_id=boot_id(),
        )
        stack.push_async_callback(_disconnect, runtime)
        await recover(runtime)
        stack.push_async_callback(runtime.streaming.close)
        await runtime.streaming.start()
    except (StateError, ImageError, NetworkError, CgroupError, ValueError, OSError) as error:
        raise DaemonError(str(error)) from error
    return runtime


def _open_network(config: Config) -> ChosenNetwork:
    from runtime.cri.update_runtime_config import pod_networks, recorded_pod_cidr
    from runtime.network.bridge import BridgeNetwork
    from runtime.network.chosen import ChosenNetwork
    from runtime.network.cni.network import CniNetwork
    from runtime.parts import cni_config, network_config

    network = ChosenNetwork(
        BridgeNetwork(network_config(config), config.root / "network.db"),
        CniNetwork(cni_config(config), config.root / "cni"),
    )
    recorded = pod_networks(recorded_pod_cidr(config.root))
    if recorded:
        network.use_pod_cidrs(recorded)
    return network


async def _disconnect(runtime: Runtime) -> None:
    """Let go of the shims; they and their containers go on."""
    for pod in runtime.store.pods():
        if pod.shim is not None:
            await pod.shim.close()


async def _drain(runtime: Runtime) -> None:
    """Give changes that are under way some time; recovery deals with what is cut off."""
    if runtime.background:
        await asyncio.wait(runtime.background, timeout=runtime.config.limits.shutdown_seconds)


async def _listen(config: Config, runtime: Runtime) -> grpc.aio.Server:
    import grpc

    from runtime.cri.serve import generic_handlers
    from runtime.transfer.serve import generic_handler

    _remove_stale_socket(config.socket)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers([*generic_handlers(runtime), generic_handler(runtime)])
    # The socket is root's alone from its first moment, not after a chmod.
    mask = os.umask(0o177)
    try:
        bound = server.add_insecure_port(config.address)
    except RuntimeError as error:
        raise DaemonError(f"listen on {config.address}: {error}") from error
    finally:
        os.umask(mask)
    if not bound:
        raise DaemonError(f"listen on {config.address}: the address cannot be bound")
    await server.start()
    return server


def _remove_stale_socket(path: Path) -> None:
    """Remove the socket of a daemon that was killed, and nothing else.

    Raises:
        DaemonError: it is no socket, or somebody listens on it.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise DaemonError(f"{path} is in the way and no socket: move it, or choose another address")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise DaemonError(f"another program listens on {path}: stop it, or choose another address")


def cannot_prepare(directory: Path, error: OSError) -> str:
    """Return what the daemon says when one of its directories cannot be used (pure)."""
    remedy = {
        errno.ENOSPC: "free space or inodes there (df -h, df -i)",
        errno.EDQUOT: "raise the quota, or free space there",
        errno.EROFS: "remount it writable, or name another directory",
    }.get(error.errno or 0, "name another directory, or see `kubeletpy doctor`")
    reason = error.strerror or str(error)
    return f"prepare the directory {directory}: {reason}; {remedy}"


def _make_private(directory: Path, *, shared: bool = False) -> None:
    """Make a directory that only root can enter.

    With ``shared`` one that is there already is left as it is: it may be /run.
    """
    missing = not directory.is_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if missing or not shared:
        os.chmod(directory, 0o700)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory against a second daemon, for as long as this process lives.

    Raises:
        DaemonError: another daemon holds it.
    """
    path = directory / _LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise DaemonError(
                f"{directory} is in use by another runtime (process {holder}): stop it, or give "
                "this one other --root and --state directories"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
