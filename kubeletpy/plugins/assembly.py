"""Puts plug-ins, devices, CPUs and memory of containers, and pod resources into a kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from kubeletpy.affinity.errors import AdmissionError, AllocationError
from kubeletpy.affinity.setup import NO_QUOTA, Affinity, set_up
from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.core import Core
from kubeletpy.csi.drivers import Drivers
from kubeletpy.csi.node_info import CsiNode
from kubeletpy.csi.objects import CsiObjects
from kubeletpy.csi.plugin import CsiPlugin
from kubeletpy.devices.manager import DeviceManager
from kubeletpy.devices.needs import add_needs
from kubeletpy.devices.server import DeviceHandler, RegistrationServer
from kubeletpy.podresources.server import DIRECTORY as POD_RESOURCES
from kubeletpy.podresources.server import PodResourcesServer, Resources
from kubeletpy.pods.environment import ContainerFault
from kubeletpy.registration.presence import NodePresence
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_proto import cri_pb2

from .leftovers import DEVICE_PLUGINS
from .watcher import CSI_PLUGIN, DEVICE_PLUGIN, DIRECTORY, PluginHandler, PluginWatcher

DEVICE_HEALTH = "ResourceHealthStatus"
"""Feature gate of KEP-4680."""
_TERMINAL = frozenset({"Succeeded", "Failed"})


class NodeResources:
    """What containers get of the node beyond shares: devices, CPUs, memory nodes.

    Args:
        affinity: the managers.
        devices: of the node.
        pods: returns all pods with their statuses.
        alone: without an API server nobody but a device plug-in gives what has a slash in its name.
    """

    def __init__(
        self,
        affinity: Affinity,
        devices: DeviceManager,
        pods: Callable[[], Iterable[Pod]],
        *,
        alone: bool = False,
    ) -> None:
        self._pods = pods
        self._alone = alone
        self._rebuilding: asyncio.Task[None] | None = None
        self.affinity = affinity
        self.devices = devices
        self._admitted: set[str] = set()
        affinity.manager.providers.append(devices)

    async def admit(self, pod: Pod) -> AdmissionError | None:
        """Give a pod what it asks for; return why it cannot be had."""
        error = await self.affinity.manager.admit(pod)
        if error is None:
            self._admitted.add(pod.metadata.uid)
        return error

    def release(self, uid: str) -> None:
        """Take back what a pod has, which has ended for good."""
        self._admitted.discard(uid)
        self.affinity.manager.release(uid)

    async def configure(
        self, pod: Pod, container: Container, config: cri_pb2.ContainerConfig
    ) -> None:
        """Put what a container has into its configuration.

        Raises:
            ContainerFault: a plug-in is not there, or failed.
        """
        self._check_offered(pod, container)
        if pod.metadata.uid not in self._admitted:
            # A pod of an earlier kubelet: it has everything, unless the state of it was lost.
            refusal = await self.admit(pod)
            if refusal is not None:
                raise ContainerFault(f"{refusal.reason}: {refusal.message}")
        try:
            add_needs(config, await self.devices.prepare(pod, container))
        except AllocationError as error:
            raise ContainerFault(str(error)) from error
        if self.affinity.pinning is not None:
            await self.affinity.pinning.configure(pod, container, config)

    def _check_offered(self, pod: Pod, container: Container) -> None:
        if not self._alone:
            return
        asked = sorted({*container.resources.limits, *container.resources.requests})
        missing = [one for one in asked if "/" in one and not self.devices.offers(one)]
        if missing:
            # It is given once the plug-in is there.
            self._admitted.discard(pod.metadata.uid)
            raise ContainerFault(
                f"no device plug-in offers {', '.join(missing)}: start one, it is waited for"
            )

    def exclusive_cpus(self, pod: Pod) -> bool:
        """Whether containers of a pod have CPUs of their own, on which a quota would throttle."""
        cpus = self.affinity.cpus
        return cpus is not None and pod.metadata.uid in cpus.state.entries

    def swept(self, known: Collection[str]) -> None:
        """Take back what pods have that are not there any more; ``known`` are."""
        uids = set(self.devices.pods())
        if self.affinity.cpus is not None:
            uids |= self.affinity.cpus.state.entries.keys()
        if self.affinity.memory is not None:
            uids |= self.affinity.memory.state.entries.keys()
        for uid in uids - set(known):
            self.release(uid)
        if self.affinity.lost:
            active = [pod for pod in self._pods() if pod.status.phase not in _TERMINAL]
            self._rebuilding = asyncio.create_task(self.affinity.rebuild(active))


def install(core: Core) -> None:
    """Hook in.

    Raises:
        ConfigurationError: a policy cannot work here.
    """
    root = core.settings.root_dir
    affinity = set_up(core.settings, core.cri)
    directory = root / DEVICE_PLUGINS
    presence = core.presence

    def changed() -> None:
        if presence is not None:
            presence.report()
        # The health of devices is a part of the statuses of those who have them.
        for uid in list(devices.pods()):
            core.manager.workers.wake(uid)

    devices = DeviceManager(directory, affinity.nodes, changed)
    devices.load()
    devices.measures = core.tools.measures
    if core.settings.feature(DEVICE_HEALTH):
        core.tools.status_adders.append(devices.add_to_pod_status)
    adders = presence.adders if presence is not None else core.node_adders
    adders.append(devices.add_to_status)
    resources = NodeResources(affinity, devices, core.manager.pods, alone=core.api is None)
    core.environment.configurers.append(resources.configure)
    core.environment.released.append(resources.release)
    core.admitters.append(resources.admit)
    core.environment.swept.append(resources.swept)
    if core.settings.feature(NO_QUOTA):
        core.cgroups.exclusive = resources.exclusive_cpus
    registration = RegistrationServer(directory, devices)
    answers = Resources(core.manager.pods, devices, affinity.cpus, affinity.memory)
    pod_resources = PodResourcesServer(root / POD_RESOURCES, answers)
    handlers: dict[str, PluginHandler] = {DEVICE_PLUGIN: DeviceHandler(devices)}
    if core.api is not None and presence is not None:
        handlers[CSI_PLUGIN] = _install_csi(core, core.api, presence)
    watcher = PluginWatcher(root / DIRECTORY, handlers)
    if affinity.pinning is not None:
        core.background.append(("CPUs of containers", affinity.pinning.run))
    core.background += [
        ("device plug-ins", registration.run),
        ("pod resources", pod_resources.run),
        ("plug-ins", watcher.run),
    ]
    core.closers.append(devices.close)


def _install_csi(core: Core, api: ApiClient, presence: NodePresence) -> Drivers:
    objects = CsiObjects(api, core.facts.name, presence)
    csi_node = CsiNode(api, core.facts.name, objects.node_uid())
    presence.listeners.append(csi_node.note)
    if presence.node is not None:
        csi_node.note(presence.node)
    drivers = Drivers(csi_node)
    root, context = core.settings.root_dir, core.volumes.context
    plugin = CsiPlugin(root, core.facts.name, drivers, objects, context)
    drivers.registered.append(plugin.tidy)
    core.volumes.add(plugin)
    core.background.append(("CSINode", csi_node.run))
    core.closers += [drivers.close, objects.close]
    return drivers
