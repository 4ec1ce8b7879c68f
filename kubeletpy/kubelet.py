"""The kubelet, put together from its parts; what each does is said where it lives."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from kubeletpy.api.events import NORMAL, Event
from kubeletpy.api.pod import Pod
from kubeletpy.certificates.identity import load_identity
from kubeletpy.certificates.pairs import CertificateError
from kubeletpy.certificates.renewal import client_renewal
from kubeletpy.cri import cgroup_driver
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.cri.node import NodeFacts
from kubeletpy.hooks.runner import Hooks
from kubeletpy.images.pulls import Images
from kubeletpy.object_cache import ObjectCache
from kubeletpy.plugins.leftovers import remove_sockets
from kubeletpy.pods.backoff import CrashLoop
from kubeletpy.pods.checkpoint import Checkpoints
from kubeletpy.pods.handlers import RuntimeHandlers
from kubeletpy.pods.local import LocalEnvironment
from kubeletpy.pods.manager import PodManager
from kubeletpy.pods.observe import Observer
from kubeletpy.pods.plan import DeadContainers
from kubeletpy.pods.tools import Tools
from kubeletpy.pods.user_namespaces import IDS_PER_POD, UserNamespaceError, UserNamespaces
from kubeletpy.probes.checks import Checker
from kubeletpy.probes.http import HttpClient
from kubeletpy.registration.machine import read_machine
from kubeletpy.registration.presence import NodePresence
from kubeletpy.resize.coordinator import Resizes
from kubeletpy.resize.execute import Executor
from kubeletpy.resources.cgroups import PodCgroups
from kubeletpy.resources.install import allocatable
from kubeletpy.server.app import Api, Server
from kubeletpy.server.health import Check, check_loop, check_runtime
from kubeletpy.sources.static import StaticPodSource
from kubeletpy.sources.updates import FILE_SOURCE, PodUpdates
from kubeletpy.status.generate import Node
from kubeletpy.variables.services import Services
from kubeletpy.variables.sources import VariableSources
from kubeletpy.volumes.manager import PodVolumes
from kubeletpy.volumes.objects import ApiObjects, NoObjects
from kubeletpy.why.story import Known
from kubeletpy_common import logs, watchdog
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError
from kubeletpy_common.cgroups import Hierarchy
from kubeletpy_common.readiness import tell_ready, tell_stopping

from .assembly import install
from .cgroup_root import make_pod_cgroups, open_hierarchy, remove_cgroups
from .core import Background, Core, keep_running
from .errors import StartError
from .events import Recorder
from .node import node_facts
from .settings import ConfigurationError, Settings
from .settings.host import host_problems, read_host

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_RETRY = 0.5
_CHECKPOINTS = "checkpoints"
_CLEANUP_EXTRA = 60.0
"""Seconds beyond the longest grace that the termination of all pods may take."""


class Kubelet:
    """One kubelet.

    Args:
        settings: its settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._core: Core | None = None
        self._node: NodePresence | None = None
        self._recorder: Recorder | None = None
        self._handlers = RuntimeHandlers()

    async def run(self, stop: asyncio.Event, *, terminate_pods: bool = False) -> bool:
        """Run pods until ``stop`` is set.

        Args:
            stop: set by whoever wants the kubelet to end.
            terminate_pods: then end and remove all pods first, and all that is theirs; else they
                go on, and the next kubelet takes them over.

        Returns:
            False if ``terminate_pods`` could not remove everything.

        Raises:
            ConfigurationError, StartError: it cannot run here.
        """
        async with _client(self._settings) as cri:
            driver = await cgroup_driver.ask(cri)
            try:
                while True:
                    self._settings = cgroup_driver.taken(self._settings, driver)
                    try:
                        return await self._live(cri, stop, terminate_pods)
                    except cgroup_driver.OtherDriver as error:
                        driver = error.driver
            finally:
                tell_stopping()

    async def _live(self, cri: CriClient, stop: asyncio.Event, terminate_pods: bool) -> bool:
        """Do what `run` says, with the cgroup driver that is set.

        Raises:
            OtherDriver: the runtime has another one; nothing was done yet that would have to stay.
        """
        async with contextlib.AsyncExitStack() as stack:
            settings = self._settings
            hierarchy = open_hierarchy(settings)
            problems = host_problems(
                settings.configuration, settings.given, read_host(hierarchy.version)
            )
            if problems:
                raise ConfigurationError("; ".join(problems))
            facts = node_facts(settings, cgroup_version=hierarchy.version)
            self._recorder = Recorder(facts.name)
            stack.enter_context(_locked(settings.root_dir))
            cgroups = make_pod_cgroups(settings, hierarchy, facts)
            facts = replace(facts, resources=cgroups.policy)
            await self._serve(stack, cri)
            tell_ready(f"kubelet of node {facts.name}")
            await self._beside(stack, "watchdog", watchdog.run)
            api = await self._api_client(stack, facts.name)
            presence = await self._presence(stack, api, facts, cri)
            http = HttpClient()
            stack.push_async_callback(http.close)
            try:
                connected = await _until(stop, self._connect(cri, facts))
            except cgroup_driver.OtherDriver:
                remove_cgroups(cgroups, hierarchy, settings.root_dir)
                raise
            if connected is None:
                # Without the runtime nothing can be ended: say so if there is something.
                left = bool(Checkpoints(settings.root_dir / _CHECKPOINTS).load())
                return not (terminate_pods and left)
            core = self._core = self._assemble(connected, hierarchy, cgroups, cri, http, api)
            if core.objects is not None:
                stack.push_async_callback(core.objects.close)
            core.presence = presence
            install(core)
            if presence is not None:
                presence.attach(core)
            for closer in core.closers:
                stack.push_async_callback(closer)
            if not await self._run_pods(core, stop, terminate_pods):
                return False
            return not terminate_pods or self._remove_rest(cgroups, hierarchy)

    async def _serve(self, stack: contextlib.AsyncExitStack, cri: CriClient) -> None:
        """Listen on the port of /healthz until the kubelet ends.

        Raises:
            StartError: the port cannot be had.
        """
        settings = self._settings

        async def runtime() -> str:
            return await check_runtime(cri)

        checks: dict[str, Check] = {"syncloop": check_loop, "runtime": runtime}
        api = Api(checks, self._pods, self._events, self._known)
        server = Server(api, settings.healthz_address, settings.healthz_port)
        try:
            await server.start()
        except OSError as error:
            raise StartError(
                f"cannot listen on {settings.healthz_address}:{settings.healthz_port}: "
                f"{error.strerror}; set another by --healthz-port (0: none)"
            ) from error
        stack.push_async_callback(server.close)

    async def _api_client(self, stack: contextlib.AsyncExitStack, name: str) -> ApiClient | None:
        """Return the client of the API server, None if the kubelet is standalone."""
        settings = self._settings
        if settings.standalone:
            return None
        one = settings.configuration
        try:
            identity = load_identity(settings)
            client = ApiClient(identity.access, rate=one.kube_api_qps, burst=one.kube_api_burst)
        except (KubeconfigError, CertificateError) as error:
            raise ConfigurationError(f"--kubeconfig: {error}") from error
        await stack.enter_async_context(client)
        assert settings.kubeconfig is not None
        renewal = client_renewal(
            identity,
            client,
            name,
            settings.kubeconfig,
            self._credentials_changed,
            self._client_renewed,
        )
        await self._beside(stack, "client certificate", renewal)
        return client

    async def _beside(self, stack: contextlib.AsyncExitStack, name: str, work: Background) -> None:
        """Run something from now on until the kubelet ends."""
        task = asyncio.create_task(keep_running(name, work), name=name)

        async def cancel() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(cancel)

    def _credentials_changed(self) -> None:
        if self._node is not None:
            self._node.report()

    async def _presence(
        self,
        stack: contextlib.AsyncExitStack,
        api: ApiClient | None,
        facts: NodeFacts,
        cri: CriClient,
    ) -> NodePresence | None:
        """Begin to register the node; it is told NotReady as long as the runtime is not there."""
        if api is None:
            return None
        assert self._recorder is not None
        machine = read_machine(self._settings.root_dir, cpus=facts.cpu_milli // 1000)
        presence = NodePresence(self._settings, facts, machine, api, cri, self._recorder)
        await self._beside(stack, "node", presence.run)
        self._node = presence
        return presence

    def _client_renewed(self, lived: float | None) -> None:
        if self._core is not None:
            self._core.tools.measures.certificate("client", lived)

    def _pods(self) -> list[Pod]:
        return self._core.manager.pods() if self._core is not None else []

    def _known(self, name: str, namespace: str) -> list[Known]:
        return self._core.manager.known(name, namespace) if self._core is not None else []

    def _events(self) -> list[Event]:
        return self._recorder.events() if self._recorder is not None else []

    async def _connect(self, cri: CriClient, facts: NodeFacts) -> tuple[NodeFacts, str]:
        """Wait for the runtime; return the facts with what it adds to them, and its name.

        Raises:
            OtherDriver: its cgroup driver is not the one that is set.
        """
        assert self._recorder is not None
        settings, told = self._settings, ""
        while True:
            try:
                version = await cri.version()
                status = await cri.status()
                cgroup_driver.check(settings, await cgroup_driver.said(cri))
                if settings.standalone and settings.configuration.pod_cidr:
                    await cri.update_runtime_config(settings.configuration.pod_cidr)
                break
            except CriError as error:
                if str(error) != told:
                    told = str(error)
                    logs.event(
                        _log, logging.WARNING, "waiting for the container runtime",
                        endpoint=cri.endpoint, reason=told,
                    )  # fmt: skip
                await asyncio.sleep(_RETRY)
        recursive = any(
            handler.name == "" and handler.features.recursive_read_only_mounts
            for handler in status.runtime_handlers
        )
        facts = replace(facts, recursive_read_only=recursive)
        logs.event(
            _log, logging.INFO, "kubelet started", node=facts.name, addresses=facts.ips,
            runtime=version.runtime_name, runtime_version=version.runtime_version,
        )  # fmt: skip
        self._recorder.node(NORMAL, "Starting", "Starting kubelet.")
        self._handlers.learn(status)
        return facts, version.runtime_name

    def _assemble(
        self,
        connected: tuple[NodeFacts, str],
        hierarchy: Hierarchy,
        cgroups: PodCgroups,
        cri: CriClient,
        http: HttpClient,
        api: ApiClient | None,
    ) -> Core:
        """Put together what the parts of this kubelet share."""
        assert self._recorder is not None
        settings, recorder = self._settings, self._recorder
        facts, runtime = connected
        cache = ObjectCache(api, lambda uid: core.object_changed(uid)) if api is not None else None
        objects = ApiObjects(api, cache) if api is not None and cache is not None else NoObjects()
        volumes, services = PodVolumes(facts, objects, recorder), Services(api)
        images = Images(cri, recorder, parallel=settings.parallel_pulls)
        sources = VariableSources(objects, services)
        usable = allocatable(settings.configuration, facts.cpu_milli, facts.memory_bytes)
        resizes = Resizes(lambda: usable, recorder)
        users = _user_namespaces(settings)
        environment = LocalEnvironment(facts, cgroups, volumes, sources, images, users)
        tools = Tools(
            cri=cri,
            observer=Observer(cri),
            environment=environment,
            images=images,
            check=Checker(cri, http),
            hooks=Hooks(cri, http),
            recorder=recorder,
            checkpoints=Checkpoints(settings.root_dir / _CHECKPOINTS),
            node=Node(facts.ips, runtime, facts.recursive_read_only),
            resizes=resizes,
            executor=Executor(cri=cri, cgroups=cgroups, node=facts),
            handlers=self._handlers,
        )
        manager = PodManager(
            tools,
            CrashLoop(maximum=settings.crash_loop_maximum),
            lambda pod, status: core.published(pod, status),
            lambda pod: core.gone(pod),
            DeadContainers(settings.dead_containers_per_container, settings.container_minimum_age),
        )
        resizes.changed = manager.resized
        core = Core(
            settings=settings, facts=facts, hierarchy=hierarchy, cgroups=cgroups, cri=cri,
            api=api, objects=cache,
            recorder=recorder, volumes=volumes, environment=environment, tools=tools,
            manager=manager,
        )  # fmt: skip
        if api is not None:
            core.background.append(("services", services.run))
        return core

    async def _run_pods(
        self,
        core: Core,
        stop: asyncio.Event,
        terminate_pods: bool,
    ) -> bool:
        manager = core.manager
        sources = {FILE_SOURCE: self._source(core.facts), **core.sources}
        running = asyncio.create_task(manager.run(sources), name="pods")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        beside = [
            asyncio.create_task(keep_running(name, work), name=name)
            for name, work in core.background
        ]
        try:
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await _ended(running)
            if not terminate_pods:
                return True
            timeout = manager.workers.longest_grace() + _CLEANUP_EXTRA
            if not await manager.terminate_all(timeout):
                logs.event(_log, logging.ERROR, "pods are left", after_s=timeout)
                return False
            return True
        finally:
            tasks = (running, stopping, *beside)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _source(self, facts: NodeFacts) -> AsyncIterator[PodUpdates]:
        path = self._settings.static_pod_path
        if path is None:
            if self._settings.kubeconfig is None and not (
                self._settings.configuration.static_pod_url
            ):
                logs.event(
                    _log, logging.WARNING,
                    "no source of pods: set --pod-manifest-path, --manifest-url or --kubeconfig",
                )  # fmt: skip
            yield PodUpdates()
            await asyncio.Event().wait()
        else:
            async for updates in StaticPodSource(path, facts.name):
                yield updates

    def _remove_rest(self, cgroups: PodCgroups, hierarchy: Hierarchy) -> bool:
        """Remove what is left once no pod is: cgroups and directories, if they are empty."""
        root = self._settings.root_dir
        if not remove_cgroups(cgroups, hierarchy, root):
            return False
        remove_sockets(root)
        records = [f"image_manager/{name}" for name in ("pulling", "pulled")]
        for name in (_CHECKPOINTS, "pods", *records, "image_manager"):
            with contextlib.suppress(OSError):
                (root / name).rmdir()
        return True


def _user_namespaces(settings: Settings) -> UserNamespaces:
    """Return the ids that pods with user namespaces get.

    Raises:
        StartError: there are not enough of them.
    """
    wanted = settings.configuration.user_namespaces
    ids = wanted.ids_per_pod if wanted is not None else None
    try:
        return UserNamespaces(settings.root_dir, ids_per_pod=ids or IDS_PER_POD)
    except UserNamespaceError as error:
        raise StartError(str(error)) from error


async def _ended(pods: asyncio.Task[None]) -> None:
    """Raise what ended the work on pods, which never ends by itself."""
    try:
        await pods
    except* OSError as group:
        # The machine refused something that nothing works without, such as an inotify watch.
        reasons = "; ".join(str(error) for error in group.exceptions)
        raise StartError(f"cannot go on: {reasons}") from group


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return the result of ``work``, or None if ``stop`` is set before."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stopping):
            each.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)


@contextlib.asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[CriClient]:
    try:
        client = CriClient(
            settings.runtime_endpoint,
            timeout=settings.runtime_timeout,
            image_endpoint=settings.image_endpoint or None,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    async with client:
        yield client


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the root directory: two kubelets on one would end each other's pods.

    Raises:
        StartError: another one has it, or it cannot be made.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"--root-dir {root}: {error}; run as root, or set another") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StartError(
            f"--root-dir {root} is in use by another kubelet: stop it, or set another"
        ) from None
    finally:
        os.close(descriptor)
