"""The environment of pods on this node: cgroups, volumes, files, CRI configurations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from kubeletpy.api.container import Container
from kubeletpy.api.defaults import default_pull_policy
from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod
from kubeletpy.blocking import Blocking
from kubeletpy.cri.container_config import ContainerRequest, container_config, sub_path_of
from kubeletpy.cri.environment import PodAddresses, environment
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.sandbox_config import pod_log_directory, sandbox_config
from kubeletpy.cri.security import ConfigError, ImageUser
from kubeletpy.images.pulls import Images
from kubeletpy.log_rotation.rotation import remove_all
from kubeletpy.resources.cgroups import CgroupError, PodCgroups
from kubeletpy.variables.services import Services
from kubeletpy.variables.sources import VariableSources, read_files
from kubeletpy.volumes.errors import VolumeError, VolumesError
from kubeletpy.volumes.manager import PodVolumes, deleted
from kubeletpy.volumes.nested import used_by
from kubeletpy.volumes.objects import NoObjects
from kubeletpy.volumes.paths import PodPaths
from kubeletpy.volumes.plugin import MountRecord
from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

from .environment import ContainerFault, EnvironmentFault, ImageFault
from .state import ImagePhase, ImageState, SandboxRecord
from .user_namespaces import UserNamespaceError, UserNamespaces

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Configurer = Callable[[Pod, Container, cri_pb2.ContainerConfig], Awaitable[None]]
TIMEOUT = 120.0
"""Seconds that making or removing the files and cgroups of a pod may take."""


class LocalEnvironment:
    """Gives pods what they need on this node; see `environment.Environment`.

    Args:
        node: facts of the node.
        cgroups: the cgroups of pods.
        volumes: the volumes and files of pods.
        sources: what variables come from.
        images: gets the images of image volumes; None: such volumes cannot be had.
        users: the ids of pods with a user namespace of their own.

    Attributes:
        configurers: each is awaited with the configuration of a container that is about to be
            created, and adds to it; raises ContainerFault.
        released: each is called with the UID of a pod of which nothing runs any more, for good.
        swept: each is called once with the UIDs of all pods that there are.
    """

    def __init__(
        self,
        node: NodeFacts,
        cgroups: PodCgroups,
        volumes: PodVolumes,
        sources: VariableSources | None = None,
        images: Images | None = None,
        users: UserNamespaces | None = None,
    ) -> None:
        self._users = users or UserNamespaces(node.root_dir)
        self._node = node
        self._sources = sources or VariableSources(NoObjects(), Services(None))
        self._images = images
        self._cgroups = cgroups
        self._volumes = volumes
        self._blocking: Blocking = volumes.context.blocking
        self._admitted: dict[str, Pod] = {}
        self.configurers: list[Configurer] = []
        self.released: list[Callable[[str], None]] = []
        self.swept: list[Callable[[Collection[str]], None]] = []

    def admit(self, pod: Pod) -> None:
        """Count the pod among those of the node."""
        self._admitted[pod.metadata.uid] = pod
        self._volumes.track(pod)
        self._weigh()

    def changed(self, pod: Pod) -> None:
        """Take over what changed of an admitted pod."""
        before = self._admitted.get(pod.metadata.uid)
        self._admitted[pod.metadata.uid] = pod
        self._volumes.track(pod)
        if before is None or before.spec != pod.spec:
            self._weigh()

    async def sweep(self, known: Collection[str]) -> None:
        """Remove directories and cgroups of pods that nobody knows of any more.

        Only pods that have a directory below this kubelet's own root count: in the cgroups of
        pods another kubelet of the machine may have its own.
        """
        for each in self.swept:
            each(known)
        for uid in await asyncio.to_thread(self._volumes.files.orphans, known):
            meta = ObjectMeta(name=uid, namespace="", uid=uid)
            try:
                await self.teardown(Pod(metadata=meta))
                await self.purge(Pod(metadata=meta))
            except EnvironmentFault as error:
                reason = str(error)
            else:
                reason = ""
            logs.event(
                _log, logging.WARNING, "left-over directory of a pod", uid=uid, removed=not reason,
                reason=reason,
            )  # fmt: skip

    def _weigh(self) -> None:
        try:
            self._cgroups.weigh(self._admitted.values())
        except (CgroupError, OSError):
            # A weight matters only under contention; the next change of a pod tries again.
            pass

    def _fit(self, uid: str) -> bool:
        """Whether a UID found in the runtime can be one of ours; others have no files here."""
        try:
            PodPaths(self._node.root_dir, uid)
        except ValueError:
            return False
        return True

    async def prepare(self, pod: Pod) -> None:
        """Make cgroup, directories and volumes.

        Raises:
            EnvironmentFault: something of it cannot be had, for now.
        """

        def work() -> None:
            self._cgroups.ensure(pod)
            self._volumes.files.prepare_directories(pod)
            if pod.spec.host_users is False:
                self._users.ensure(pod.metadata.uid)

        await self._run(pod, "making cgroup and directories of the pod", work)
        await self._mount(pod)

    async def _mount(self, pod: Pod) -> dict[str, MountRecord]:
        """Make the volumes of a pod.

        Raises:
            EnvironmentFault: some cannot be had, for now; all but the first are told as events.
        """
        try:
            return await self._volumes.mount(pod)
        except VolumesError as error:
            recorder = self._volumes.context.recorder
            for other in error.errors[1:]:
                if recorder is not None and not deleted(self._admitted.get(pod.metadata.uid, pod)):
                    recorder.warning(pod, "FailedMount", str(other))
            raise EnvironmentFault("FailedMount", str(error.errors[0])) from error
        except (VolumeError, TimeoutError) as error:
            raise EnvironmentFault("FailedMount", str(error)) from error

    async def _run(self, pod: Pod, what: str, work: Callable[[], _T]) -> _T:
        try:
            return await self._blocking.run(pod.metadata.uid, what, TIMEOUT, work)
        except VolumeError as error:
            raise EnvironmentFault("FailedMount", str(error)) from error
        except CgroupError as error:
            raise EnvironmentFault("FailedCreatePodContainer", str(error)) from error
        except UserNamespaceError as error:
            raise EnvironmentFault("FailedCreatePodSandBox", str(error)) from error
        except (TimeoutError, ValueError) as error:
            raise EnvironmentFault("FailedMount", str(error)) from error
        except OSError as error:
            raise EnvironmentFault("FailedCreatePodContainer", str(error)) from error

    def sandbox(self, pod: Pod, attempt: int) -> tuple[cri_pb2.PodSandboxConfig, list[str]]:
        """Return the sandbox's configuration, and warnings.

        Raises:
            EnvironmentFault: there is none.
        """
        try:
            plan = sandbox_config(
                pod,
                self._node,
                attempt=attempt,
                cgroup_parent=self._cgroups.path(pod),
                ids=self._ids(pod),
            )
        except ConfigError as error:
            raise EnvironmentFault("FailedCreatePodSandBox", str(error)) from error
        return plan.config, plan.warnings

    def _ids(self, pod: Pod) -> tuple[int, int] | None:
        """Return the ids of a pod's own user namespace; None if it uses the node's.

        Raises:
            ConfigError: it wants one and has none: it is never run as the node's users instead.
        """
        if pod.spec.host_users is not False:
            return None
        ids = self._users.of(pod.metadata.uid)
        if ids is None:
            raise ConfigError("the pod has no ids for its user namespace yet")
        return ids.first, ids.length

    async def container(
        self,
        pod: Pod,
        container: Container,
        attempt: int,
        image: ImageState,
        sandbox: SandboxRecord,
    ) -> cri_pb2.ContainerConfig:
        """Make the files of one run of a container, and return its configuration.

        Raises:
            ContainerFault, EnvironmentFault: it cannot be made.
        """
        own = self._node.ips if pod.spec.host_network else sandbox.ips
        addresses = PodAddresses(pod=own, host=self._node.ips)
        mounted = self._volumes.mounted(pod.metadata.uid)
        if not used_by(container) <= mounted.keys():
            # An ephemeral container may use a volume that no other did.
            mounted = await self._mount(pod)
        images = await self._image_volumes(pod, container, sandbox)
        try:
            collected = await self._sources.collect(pod, container)
        except ConfigError as error:
            raise ContainerFault(str(error)) from error
        request = ContainerRequest(
            pod=pod,
            container=container,
            node=self._node,
            attempt=attempt,
            image_ref=image.ref,
            image_user=ImageUser(uid=image.uid, name=image.username),
            addresses=addresses,
            volumes=mounted,
            images=images,
            sources=collected,
        )
        try:
            what = f"making the files of container {container.name}"
            config = await self._run(pod, what, partial(self._configured, request))
        except ConfigError as error:
            raise ContainerFault(str(error)) from error
        for each in self.configurers:
            await each(pod, container, config)
        return config

    def _configured(self, request: ContainerRequest) -> cri_pb2.ContainerConfig:
        """Make the files of one run of a container, and its configuration (blocking).

        Raises:
            ConfigError, OSError: they cannot be made.
        """
        pod, container = request.pod, request.container
        volumes, files = self._volumes, self._volumes.files
        log = pod_log_directory(pod, self._node) / container.name
        log.mkdir(mode=0o755, parents=True, exist_ok=True)
        sources = replace(request.sources, files=read_files(container, request.volumes))
        variables = environment(pod, container, self._node, request.addresses, sources)
        termination_log = ""
        if container.termination_message_path:
            termination_log = files.termination_log(pod, container, request.attempt)
        return container_config(
            replace(
                request,
                image_sub_paths={
                    index: sub_path_of(mount, variables)
                    for index, mount in enumerate(container.volume_mounts)
                    if mount.name in request.images
                },
                sources=sources,
                sub_paths=volumes.sub_paths(pod, container, variables),
                hosts_file=files.write_hosts(pod, request.addresses.pod),
                termination_log=termination_log,
                ids=self._ids(pod),
            )
        )

    async def _image_volumes(
        self, pod: Pod, container: Container, sandbox: SandboxRecord
    ) -> dict[str, str]:
        """Get the images of the image volumes of a container; return their ids by volume.

        Raises:
            ImageFault: one cannot be had.
        """
        found: dict[str, str] = {}
        used = used_by(container)
        for volume in pod.spec.volumes:
            source = volume.image
            if source is None or volume.name not in used:
                continue
            if self._images is None:
                raise EnvironmentFault("FailedMount", "image volumes need an image service")
            wanted = Container(
                name=container.name,
                image=source.reference,
                image_pull_policy=source.pull_policy or default_pull_policy(source.reference),
            )
            config, _ = self.sandbox(pod, sandbox.attempt)
            state = await self._images.ensure(pod, wanted, config)
            if state.phase is not ImagePhase.PRESENT:
                raise ImageFault(state.reason, state.message)
            found[volume.name] = state.ref
        return found

    async def teardown(self, pod: Pod) -> None:
        """Unmount the volumes and remove the cgroup of a pod of which nothing runs any more.

        Raises:
            EnvironmentFault: something of it is still in use.
        """
        uid = pod.metadata.uid
        if not self._fit(uid):
            return

        try:
            await self._volumes.unmount(uid)
        except VolumeError as error:
            raise EnvironmentFault("FailedUnmount", str(error)) from error
        remove = self._cgroups.remove
        await self._run(pod, "removing the cgroup of the pod", lambda: remove(uid))
        for each in self.released:
            each(uid)
        self._admitted.pop(uid, None)
        self._weigh()

    def held_up(self, pod: Pod) -> str:
        """Return in words what `teardown` waits for right now, "" if that is not known."""
        names = self._volumes.unmounting(pod.metadata.uid)
        return f"unmounting volume {', '.join(names)}" if names else ""

    async def purge(self, pod: Pod) -> None:
        """Remove the pod's directories and logs.

        Raises:
            EnvironmentFault: something of it could not be removed.
        """

        if not self._fit(pod.metadata.uid):
            return

        try:
            await self._volumes.remove(pod.metadata.uid)
        except VolumeError as error:
            raise EnvironmentFault("FailedUnmount", str(error)) from error
        remove = self._volumes.files.remove_logs
        await self._run(pod, "removing the logs of the pod", lambda: remove(pod))
        self._users.release(pod.metadata.uid)

    async def forget_log(self, pod: Pod, path: str) -> None:
        """Remove the log file of a removed container; only below the pod's log directory."""
        directory = pod_log_directory(pod, self._node)
        file = Path(path)
        if file.is_absolute() and file.parent.parent == directory and ".." not in file.parts:
            await self._run(pod, "removing a log", lambda: remove_all(file))
