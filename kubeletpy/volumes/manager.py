"""All volumes of pods: made before the containers, kept up to date, removed after them.

::

    mount(pod)     resolve claims -> record on disk -> set up all, at the same time -> paths
    changed(uid)   the pod or an object it names changed: set up again what follows such changes
    unmount(uid)   sub-paths -> the plugins, volume by volume -> whatever else is mounted

Volumes do not wait for each other, and pods do not wait for other pods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import Volume
from kubeletpy.cri.container_config import sub_path_of
from kubeletpy.cri.node import NodeFacts
from kubeletpy.events import Recorder
from kubeletpy_common import logs

from . import claims, cleanup, content, nested, records, subpath
from .context import Context
from .empty_dir import EmptyDirPlugin
from .errors import UnreachableError, VolumeError, VolumesError
from .files import PodFiles
from .host_path import HostPathPlugin
from .image import ImagePlugin
from .local import LocalPlugin
from .nfs import NfsPlugin
from .objects import NoObjects, Objects
from .payload import group_of, user_of
from .plugin import MountRecord, Plugins, SetUp, VolumePlugin, VolumeRequest
from .tokens import Tokens

_log = logging.getLogger(__name__)
MOUNT_TIMEOUT = 123.0
"""Seconds that the volumes of a pod may take together, as in Go; then it is tried again."""
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds until an update that failed is tried again."""


@dataclass
class _PodState:
    """What is known of a pod's volumes.

    Attributes:
        pod: the newest version.
        records: what is, or may be, mounted.
        ready: what was set up, so that containers can have it.
        locks: one for each volume; a plugin is never called twice for one volume at a time.
        due: volumes to be set up again.
        update: the task that does so.
        timers: when volumes are to be set up again.
        failures: of updates in a row.
        unmounted: whether nothing is mounted any more.
    """

    pod: Pod
    records: dict[str, MountRecord] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    update: asyncio.Task[None] | None = None
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    failures: int = 0
    unmounted: bool = False


class PodVolumes:
    """Volumes of the pods of one kubelet.

    Args:
        node: facts of the node; its ``root_dir`` holds all but hostPath volumes and logs.
        objects: the API server; None: there is none.
        recorder: takes events; None: nobody wants them.

    Attributes:
        files: what pods have besides volumes.
        context: what the built-in plugins share.
        plugins: all kinds of volumes; `add` puts another before them.
    """

    def __init__(
        self, node: NodeFacts, objects: Objects | None = None, recorder: Recorder | None = None
    ) -> None:
        self.files = PodFiles(node)
        objects = objects or NoObjects()
        self.context = context = Context(node, objects, Tokens(objects), recorder)
        self.plugins = Plugins(
            [
                *content.plugins(context),
                EmptyDirPlugin(context),
                HostPathPlugin(context),
                LocalPlugin(context),
                NfsPlugin(context),
                ImagePlugin(),
            ]
        )
        self._pods: dict[str, _PodState] = {}
        self._unmounting: dict[str, set[str]] = {}

    def add(self, plugin: VolumePlugin) -> None:
        """Let a plugin make volumes; it is asked before those that are there."""
        self.plugins.every.insert(0, plugin)

    # -- what pods there are

    def track(self, pod: Pod) -> None:
        """Take up a pod, or a new version of it; what is mounted already is brought up to date.

        Call it from the event loop.
        """
        state = self._pods.get(pod.metadata.uid)
        if state is None:
            state = self._state(pod)
            state.ready = set(state.records)
            self.context.objects.register(pod)
        elif state.pod == pod:
            return
        elif state.pod.spec != pod.spec:
            self.context.objects.register(pod)
        state.pod = pod
        self.changed(pod.metadata.uid)

    def _state(self, pod: Pod) -> _PodState:
        uid = pod.metadata.uid
        state = self._pods.get(uid)
        if state is None:
            known = records.load(self.files.paths(uid).mounts)
            state = self._pods[uid] = _PodState(pod, known)
        return state

    def mounted(self, uid: str) -> dict[str, MountRecord]:
        """Return the volumes of a pod that containers can have, by name."""
        state = self._pods.get(uid)
        if state is None:
            return records.load(self.files.paths(uid).mounts)
        return {name: state.records[name] for name in state.ready if name in state.records}

    # -- mounting

    async def mount(self, pod: Pod) -> dict[str, MountRecord]:
        """Make all volumes that containers of the pod use; return them by name.

        Raises:
            VolumesError: some cannot be had for now; the others are made and stay.
        """
        state = self._state(pod)
        state.pod, state.unmounted = pod, False
        wanted = nested.used(pod)
        volumes = [volume for volume in pod.spec.volumes if volume.name in wanted]
        if not volumes:
            return {}
        uid = pod.metadata.uid
        if not self.files.paths(uid).directory.is_dir():
            await self.context.run_for(
                uid, "", "making the pod's directory", lambda: self.files.made(uid)
            )
        resolved = await asyncio.gather(
            *(self._resolve(pod, volume) for volume in volumes), return_exceptions=True
        )
        plans = [each for each in resolved if not isinstance(each, BaseException)]
        failed = failures((volume.name for volume in volumes), resolved)
        self._record(state, [record for _, _, record in plans])
        done = await asyncio.gather(
            *(self._set_up(state, plugin, request) for plugin, request, _ in plans),
            return_exceptions=True,
        )
        failed += failures((request.spec_name for _, request, _ in plans), done)
        if failed:
            raise VolumesError(failed)
        return self.mounted(uid)

    async def _resolve(
        self, pod: Pod, volume: Volume
    ) -> tuple[VolumePlugin, VolumeRequest, MountRecord]:
        """Return who makes a volume, and how; see `claims.resolve`."""
        source, read_only = await claims.resolve(self.context.objects, pod, volume)
        plugin = self.plugins.of(source)
        if plugin is None:
            raise VolumeError("", f"no volume plugin matched: {volume.name} is of an unknown kind")
        spec_name, block = volume.name, False
        if source.volume is not None:
            spec_name = str(source.volume["metadata"]["name"])
            block = source.volume["spec"].get("volumeMode") == "Block"
            claims.check_node(source.volume, self.context.node_labels())
            if source.volume["spec"].get("mountOptions") and not plugin.mount_options:
                raise VolumeError("", "mount options are not supported for this volume type")
        context = pod.spec.security_context
        request = VolumeRequest(
            pod=pod,
            name=volume.name,
            spec_name=spec_name,
            source=source,
            directory=self.files.paths(pod.metadata.uid).volume(plugin.name, spec_name),
            read_only=read_only,
            block=block,
            fs_group=group_of(pod),
            fs_group_policy=(context.fs_group_change_policy if context else None) or "Always",
            fs_user=user_of(pod),
        )
        record = MountRecord(
            name=volume.name,
            spec_name=spec_name,
            plugin=plugin.name,
            path=plugin.path(request),
            read_only=plugin.read_only(request),
            block=block,
        )
        return plugin, request, record

    def _record(self, state: _PodState, fresh: Iterable[MountRecord]) -> None:
        before = dict(state.records)
        state.records.update((record.name, record) for record in fresh)
        if state.records != before:
            path = self.files.paths(state.pod.metadata.uid).mounts
            try:
                records.save(path, state.records.values())
            except OSError as error:
                state.records = before
                fault = VolumeError("", f"volumes cannot be recorded: {error}")
                raise VolumesError([fault]) from error

    async def _set_up(
        self, state: _PodState, plugin: VolumePlugin, request: VolumeRequest
    ) -> SetUp:
        lock = state.locks.setdefault(request.name, asyncio.Lock())
        async with lock:
            try:
                async with asyncio.timeout(MOUNT_TIMEOUT):
                    made = await plugin.set_up(request)
            except TimeoutError as error:
                raise VolumeError(
                    "", f"not done in {MOUNT_TIMEOUT:.0f} s; it is tried again"
                ) from error
        state.ready.add(request.name)
        timer = state.timers.pop(request.name, None)
        if timer is not None:
            timer.cancel()
        uid = request.pod.metadata.uid
        if made.again_after is not None and self._pods.get(uid) is state:
            state.timers[request.name] = asyncio.get_running_loop().call_later(
                made.again_after, self._due, uid, {request.name}
            )
        return made

    # -- following changes

    def changed(self, uid: str) -> None:
        """Bring the files of a pod up to date: it, or an object that it names, has changed."""
        state = self._pods.get(uid)
        if state is not None:
            names = {
                name
                for name in state.ready
                if name in state.records and self._follows(state.records[name])
            }
            self._due(uid, names)

    def _follows(self, record: MountRecord) -> bool:
        plugin = self.plugins.named(record.plugin)
        return plugin is not None and plugin.follows

    def _due(self, uid: str, names: set[str]) -> None:
        state = self._pods.get(uid)
        if state is None or not names:
            return
        state.due |= names
        if state.update is None:
            state.update = asyncio.create_task(self._update(state), name=f"volumes of {uid}")

    async def _update(self, state: _PodState) -> None:
        """Set up again what is due, until nothing is."""
        try:
            while state.due:
                names, state.due = state.due, set()
                volumes = [one for one in state.pod.spec.volumes if one.name in names]
                done = await asyncio.gather(
                    *(self._again(state, volume) for volume in volumes), return_exceptions=True
                )
                failed = {
                    volume.name
                    for volume, result in zip(volumes, done, strict=True)
                    if isinstance(result, BaseException)
                }
                self._told(state, volumes, done)
                if failed:
                    state.failures += 1
                    pause = min(FIRST_RETRY * 2.0 ** min(state.failures - 1, 10), LONGEST_RETRY)
                    uid = state.pod.metadata.uid
                    asyncio.get_running_loop().call_later(pause, self._due, uid, failed)
                else:
                    state.failures = 0
        finally:
            state.update = None

    async def _again(self, state: _PodState, volume: Volume) -> SetUp:
        plugin, request, _ = await self._resolve(state.pod, volume)
        return await self._set_up(state, plugin, request)

    def _told(
        self, state: _PodState, volumes: list[Volume], done: list[SetUp | BaseException]
    ) -> None:
        for volume, result in zip(volumes, done, strict=True):
            if isinstance(result, UnreachableError):
                # Its containers go on with what they have; the node tells that nobody answers.
                logs.event(
                    _log, logging.INFO, "volume not brought up to date", volume=volume.name,
                    pod=state.pod.metadata.uid, reason=str(result),
                )  # fmt: skip
            elif isinstance(result, VolumeError):
                # What a pod that is being deleted shows may be deleted along with it.
                if self.context.recorder is not None and not deleted(state.pod):
                    message = mount_failure(state.records[volume.name].spec_name, str(result))
                    self.context.recorder.warning(state.pod, "FailedMount", message)
            elif isinstance(result, BaseException):
                logs.event(
                    _log, logging.ERROR, "volume not brought up to date", volume=volume.name,
                    pod=state.pod.metadata.uid, reason=repr(result),
                )  # fmt: skip

    # -- what containers get

    def sub_paths(
        self, pod: Pod, container: Container, variables: Mapping[str, str]
    ) -> dict[int, str]:
        """Bind the subPaths of a container; return the paths by index of the mount. Blocking.

        Args:
            pod: its volumes are mounted.
            container: one of its containers.
            variables: the container's environment, for subPathExpr.

        Raises:
            VolumeError: one leaves its volume or cannot be bound.
            ConfigError: subPathExpr names an undefined variable.
        """
        volumes = self.mounted(pod.metadata.uid)
        paths = self.files.paths(pod.metadata.uid)
        result = {}
        for index, mount in enumerate(container.volume_mounts):
            inside = sub_path_of(mount, variables)
            record = volumes.get(mount.name)
            # The runtime looks for the path inside an image itself.
            if not inside or record is None or not record.path:
                continue
            if inside.startswith("/") or ".." in inside.split("/"):
                raise VolumeError(mount.name, f"subPath {inside!r} must stay inside the volume")
            target = paths.sub_path(mount.name, container.name, index)
            result[index] = subpath.prepare(mount.name, record.path, inside, target)
        return result

    # -- the end

    async def unmount(self, uid: str) -> None:
        """Unmount all that is mounted for a pod; nothing is fine.

        Raises:
            VolumeError: something is busy, or hangs.
        """
        state = self._pods.get(uid)
        known = records.load(self.files.paths(uid).mounts) if state is None else state.records
        if state is not None:
            await self._stop(state)
        run = self.context.run_for
        paths = self.files.paths(uid)

        def sub_paths() -> None:
            if paths.sub_paths.is_dir():
                cleanup.unmount_below(paths.sub_paths)

        await run(uid, "sub-paths", "unmounting", sub_paths)
        done = await asyncio.gather(
            *(self._tear_down(uid, record) for record in known.values()), return_exceptions=True
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result

        def rest() -> None:
            cleanup.unmount_below(paths.directory)
            paths.mounts.unlink(missing_ok=True)

        await run(uid, "volumes", "unmounting", rest)
        self.context.tokens.forget(uid)
        if state is not None:
            state.ready.clear()
            state.records.clear()
            state.unmounted = True

    async def _stop(self, state: _PodState) -> None:
        for timer in state.timers.values():
            timer.cancel()
        state.timers.clear()
        state.due.clear()
        if state.update is not None:
            state.update.cancel()
            await asyncio.gather(state.update, return_exceptions=True)

    async def _tear_down(self, uid: str, record: MountRecord) -> None:
        plugin = self.plugins.named(record.plugin)
        if plugin is None:
            raise VolumeError(
                record.name, f"plugin {record.plugin}, which mounted it, is not there any more"
            )
        under_way = self._unmounting.setdefault(uid, set())
        under_way.add(record.spec_name)
        try:
            await plugin.tear_down(uid, record)
        except VolumeError as error:
            message = f'UnmountVolume.TearDown failed for volume "{record.spec_name}" : {error}'
            raise VolumeError("", message) from error
        finally:
            under_way.discard(record.spec_name)
            if not under_way:
                self._unmounting.pop(uid, None)

    def unmounting(self, uid: str) -> list[str]:
        """Return the names of the volumes of a pod that are being unmounted right now."""
        return sorted(self._unmounting.get(uid, ()))

    async def remove(self, uid: str) -> None:
        """Unmount and remove all of a pod below the root directory; nothing is fine.

        Raises:
            VolumeError: something is busy or mounted; nothing behind a mount is touched.
        """
        state = self._pods.get(uid)
        if state is None or not state.unmounted:
            await self.unmount(uid)
        directory = self.files.paths(uid).directory
        try:
            await self.context.run_for(
                uid, "directory", "removing the directory", lambda: cleanup.remove_tree(directory)
            )
        except VolumeError:
            # A mount that was under way when the pod ended may have come up after all.
            if state is not None:
                state.unmounted = False
            raise
        self.context.objects.unregister(uid)
        self._pods.pop(uid, None)


def deleted(pod: Pod) -> bool:
    """Whether a pod is being deleted in the API server (pure)."""
    return pod.metadata.deletion_timestamp is not None


def mount_failure(name: str, message: str) -> str:
    """Return what an event says of a volume that cannot be had, in Go's words (pure)."""
    return f'MountVolume.SetUp failed for volume "{name}" : {message}'


def failures(names: Iterable[str], results: Iterable[object]) -> list[VolumeError]:
    """Return the errors of volumes among results, each with the words of its event (pure).

    Raises:
        BaseException: a result that is no fault of a volume.
    """
    found = []
    for name, result in zip(names, results, strict=True):
        if isinstance(result, VolumeError):
            found.append(VolumeError("", mount_failure(name, str(result))))
        elif isinstance(result, BaseException):
            raise result
    return found
