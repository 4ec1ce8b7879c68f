"""Carrying out what was decided for a pod: each step is one small coroutine.

Reasons, events and their wording are those of the Go kubelet 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from kubeletpy.api.container import Container, EphemeralContainer
from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriError
from kubeletpy.hooks.runner import HookError, describe
from kubeletpy.images.pulls import reason_of
from kubeletpy.resize.plan import amounts
from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

from .environment import ContainerFault, EnvironmentFault, ImageFault
from .handlers import HandlerError
from .observe import AMOUNTS, BACKOFF, PodView
from .plan import ResetContainer, StartContainer
from .restarts import every_container
from .state import ContainerPhase, ContainerRecord, ImageState, SandboxRecord
from .tools import Tools
from .turns import Turns

_log = logging.getLogger(__name__)
SHORTEST_GRACE = 2
"""Seconds that a container has at least between SIGTERM and SIGKILL, as in the Go kubelet."""
HOOK_LIMIT = 3600.0
"""Seconds that a postStart hook may take; the Go kubelet sets no limit of its own."""
LATE = 1.5
"""Seconds after which it is told that a killed container lives, or that unmounting hangs."""


class StepError(Exception):
    """A step that failed; reason and message are shown in status and events."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def grace_of(pod: Pod) -> int:
    """Return the seconds a pod has to end by itself."""
    for seconds in (
        pod.metadata.deletion_grace_period_seconds,
        pod.spec.termination_grace_period_seconds,
    ):
        if seconds is not None:
            return max(seconds, 0)
    return 30


class Steps:
    """The steps of one pod.

    Args:
        pod: whose steps these are.
        tools: what all workers share.
        late: told what holds up the end of the pod, while that is still being waited for.

    Attributes:
        containers: of all kinds, by name.
    """

    def __init__(
        self, pod: Pod, tools: Tools, late: Callable[[StepError], None] = lambda error: None
    ) -> None:
        self._tools = tools
        self._late = late
        self._hooked: set[str] = set()
        self.update(pod)

    def update(self, pod: Pod) -> None:
        """Take over a changed specification of the pod."""
        self._pod = pod
        self.containers = {one.name: one for one in every_container(pod)}

    @property
    def pod(self) -> Pod:
        """The pod as it is to be."""
        return self._pod

    async def create_sandbox(self, attempt: int) -> str:
        """Prepare the node and run a sandbox; return its id.

        Raises:
            StepError: with an event told.
        """
        pod, tools = self._pod, self._tools
        made = False
        try:
            handler = await tools.handlers.of(pod)
            await tools.environment.prepare(pod)
            config, warnings = tools.environment.sandbox(pod, attempt)
            for warning in warnings:
                tools.recorder.warning(pod, "DNSConfigForming", warning)
            created = await tools.cri.run_pod_sandbox(config, handler)
            made = True
            return created
        except EnvironmentFault as error:
            self._warn(error.reason, str(error))
            raise StepError(error.reason, str(error)) from error
        except (CriError, HandlerError) as error:
            cause = reason_of(error) if isinstance(error, CriError) else str(error)
            message = f"Failed to create pod sandbox: {cause}"
            self._warn("FailedCreatePodSandBox", message)
            raise StepError("FailedCreatePodSandBox", message) from error
        finally:
            tools.measures.sandbox(pod, made)

    def _warn(self, reason: str, message: str, container: str = "") -> None:
        """Tell that something could not be made, unless the pod is being deleted meanwhile.

        What it needs may be deleted along with it.
        """
        if self._pod.metadata.deletion_timestamp is None:
            self._tools.recorder.warning(self._pod, reason, message, container)

    async def start(
        self,
        action: StartContainer,
        image: ImageState,
        sandbox: SandboxRecord,
        ending: asyncio.Event,
    ) -> None:
        """Create and start a container, and run its postStart hook.

        Args:
            action: which one.
            image: present.
            sandbox: where.
            ending: set when the pod is to end; then the hook is not waited for any more.

        Raises:
            StepError: with an event told.
        """
        container = self.containers[action.name]
        if action.replaces:
            await self.remove_container(action.replaces)
        container_id = await self._create(container, action, image, sandbox)
        recorder = self._tools.recorder
        try:
            await self._tools.cri.start_container(container_id)
        except CriError as error:
            raise self._failed(container, "RunContainerError", reason_of(error)) from error
        recorder.normal(self._pod, "Started", "Container started", container.name)
        await self._post_start(container, container_id, sandbox, ending)

    async def _create(
        self,
        container: Container,
        action: StartContainer,
        image: ImageState,
        sandbox: SandboxRecord,
    ) -> str:
        pod, tools = self._pod, self._tools
        try:
            config = await tools.environment.container(
                pod, container, action.attempt, image, sandbox
            )
            sandbox_config, _ = tools.environment.sandbox(pod, sandbox.attempt)
        except ImageFault as error:
            raise StepError(error.reason, str(error)) from error
        except (ContainerFault, EnvironmentFault) as error:
            raise self._failed(container, "CreateContainerConfigError", str(error)) from error
        config.annotations[BACKOFF] = str(round(action.backoff))
        config.annotations[AMOUNTS] = amounts(pod, container.resources).text()
        if isinstance(container, EphemeralContainer) and container.target_container_name:
            if not action.target:
                text = f"unable to find target container {container.target_container_name}"
                raise self._failed(container, "CreateContainerConfigError", text)
            options = config.linux.security_context.namespace_options
            options.pid, options.target_id = cri_pb2.TARGET, action.target
        try:
            created = await tools.cri.create_container(sandbox.id, config, sandbox_config)
        except CriError as error:
            raise self._failed(container, "CreateContainerError", reason_of(error)) from error
        tools.recorder.normal(pod, "Created", "Container created", container.name)
        return created

    def _failed(self, container: Container, reason: str, message: str) -> StepError:
        self._warn("Failed", f"Error: {message}", container.name)
        return StepError(reason, message)

    async def _post_start(
        self,
        container: Container,
        container_id: str,
        sandbox: SandboxRecord,
        ending: asyncio.Event,
    ) -> None:
        handler = container.lifecycle.post_start if container.lifecycle else None
        if handler is None:
            return
        hook = asyncio.ensure_future(
            self._tools.hooks.run(
                handler, container, container_id, self.address(sandbox), HOOK_LIMIT
            )
        )
        stop = asyncio.ensure_future(ending.wait())
        try:
            await asyncio.wait((hook, stop), return_when=asyncio.FIRST_COMPLETED)
            if not hook.done():
                return
            try:
                self._note_hook(container, hook.result())
            except HookError as error:
                message = f"PostStartHook failed: {error}"
                self._tools.recorder.warning(
                    self._pod, "FailedPostStartHook", message, container.name
                )
                meta = self._pod.metadata
                message = (
                    f'{describe(handler)} for Container "{container.name}" in Pod '
                    f'"{meta.name}_{meta.namespace}({meta.uid})" failed - error: {error}'
                )
                raise StepError("PostStartHookError", message) from error
        finally:
            for task in (hook, stop):
                task.cancel()
            await asyncio.gather(hook, stop, return_exceptions=True)

    def _note_hook(self, container: Container, note: str) -> None:
        if note:
            recorder = self._tools.recorder
            recorder.warning(self._pod, "LifecycleHTTPFallback", note, container.name)

    def address(self, sandbox: SandboxRecord | None) -> str:
        """Return the address at which the pod's containers are asked."""
        if sandbox is not None and sandbox.ips and not sandbox.host_network:
            return sandbox.ips[0]
        ips = self._tools.node.ips
        return ips[0] if ips else "127.0.0.1"

    async def kill(
        self,
        container_id: str,
        name: str,
        message: str,
        grace: float,
        sandbox: SandboxRecord | None,
        *,
        hook: bool = True,
        turns: Turns | None = None,
    ) -> None:
        """End a container: preStop hook, its turn, stop signal, SIGKILL, within ``grace`` seconds.

        Args:
            container_id, name: which one.
            message: of the event.
            grace: seconds.
            sandbox: its own, for the address that hooks ask.
            hook: whether to run its preStop hook.
            turns: the order among the containers of a pod that ends.

        Raises:
            StepError: it may still run.
        """
        tools = self._tools
        begun = tools.clock()
        tools.recorder.normal(self._pod, "Killing", message, name)
        container = self.containers.get(name)
        lifecycle = container.lifecycle if container else None
        # A hook runs once, also if the end of its container is hurried or tried again.
        hook = hook and container_id not in self._hooked
        if grace > 0 and hook and container and lifecycle and lifecycle.pre_stop:
            self._hooked.add(container_id)
            address = self.address(sandbox)
            try:
                pre_stop = lifecycle.pre_stop
                self._note_hook(
                    container,
                    await tools.hooks.run(pre_stop, container, container_id, address, grace),
                )
            except HookError as error:
                text = f"PreStopHook failed: {error}"
                tools.recorder.warning(self._pod, "FailedPreStopHook", text, name)
        if turns is not None:
            await turns.wait(name, grace - max(tools.clock() - begun, 0.0))
        remaining = max(round(grace - max(tools.clock() - begun, 0.0)), SHORTEST_GRACE)
        held = (
            f"error killing container {name}: it has not ended {LATE:g} s after SIGKILL; the "
            "kernel holds one of its processes, or the runtime hangs; it is waited for"
        )
        try:
            with self._noticing(remaining + LATE, "FailedKillPod", lambda: held, name):
                await tools.cri.stop_container(container_id, remaining)
        except CriError as error:
            if not error.not_found:
                text = f"error killing container {name}: {reason_of(error)}"
                tools.recorder.warning(self._pod, "FailedKillPod", text, name)
                raise StepError("FailedKillPod", text) from error
        if turns is not None:
            turns.ended(name)

    @contextlib.contextmanager
    def _noticing(
        self, after: float, reason: str, text: Callable[[], str], container: str = ""
    ) -> Iterator[None]:
        """Tell, as an event and as a failure, what is not done ``after`` seconds; go on waiting."""

        def tell() -> None:
            message = text()
            self._tools.recorder.warning(self._pod, reason, message, container)
            self._late(StepError(reason, message))

        timer = asyncio.get_running_loop().call_later(after, tell)
        try:
            yield
        finally:
            timer.cancel()

    async def kill_all(
        self, view: PodView, grace: float, hooked: frozenset[str] = frozenset()
    ) -> None:
        """End all that lives of the pod: its containers in the order of `Turns`, then sandboxes.

        The containers ``hooked`` have their preStop hook running or behind them already.

        Raises:
            StepError: something may still live.
        """
        alive = [
            record
            for record in view.containers
            if record.phase in (ContainerPhase.RUNNING, ContainerPhase.UNKNOWN)
        ]
        await self._kill_some(alive, view, grace, hooked)
        for box in view.sandboxes:
            if not box.ready and not alive:
                continue
            try:
                await self._tools.cri.stop_pod_sandbox(box.id)
            except CriError as error:
                if error.not_found:
                    continue
                text = f"error killing pod: failed to stop sandbox {box.id}: {reason_of(error)}"
                self._tools.recorder.warning(self._pod, "FailedKillPod", text)
                raise StepError("FailedKillPod", text) from error

    async def reset(self, containers: Sequence[ResetContainer], view: PodView) -> None:
        """End all containers without their preStop hooks, and remove them in this order.

        Their logs stay until the pod goes, as nothing else is left of them (KEP-5532).

        Raises:
            StepError: not all of them are gone.
        """
        boxes = {box.id: box for box in view.sandboxes}
        places = {record.id: boxes.get(record.sandbox_id) for record in view.containers}
        for one in containers:
            if one.kill:
                message = f"Container {one.name} ends, as all containers of the pod restart"
                box = places.get(one.id)
                await self.kill(one.id, one.name, message, SHORTEST_GRACE, box, hook=False)
            await self.remove_container(one.id)

    async def _kill_some(
        self,
        records: Iterable[ContainerRecord],
        view: PodView,
        grace: float,
        hooked: frozenset[str],
    ) -> None:
        boxes = {box.id: box for box in view.sandboxes}
        records = list(records)
        turns = Turns(self._pod, {record.name for record in records})
        ended = await asyncio.gather(
            *(
                self.kill(
                    record.id,
                    record.name,
                    f"Stopping container {record.name}",
                    grace,
                    boxes.get(record.sandbox_id),
                    hook=record.id not in hooked,
                    turns=turns,
                )
                for record in records
            ),
            return_exceptions=True,
        )
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome

    async def remove_container(self, container_id: str, log_path: str = "") -> None:
        """Remove a container that does not run, and its log file.

        Raises:
            StepError: it is still there.
        """
        try:
            await self._tools.cri.remove_container(container_id)
        except CriError as error:
            if not error.not_found:
                raise StepError("FailedRemoveContainer", reason_of(error)) from error
        if log_path:
            with contextlib.suppress(EnvironmentFault):
                await self._tools.environment.forget_log(self._pod, log_path)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox and what containers it still has.

        Raises:
            StepError: it is still there.
        """
        try:
            await self._tools.cri.remove_pod_sandbox(sandbox_id)
        except CriError as error:
            if not error.not_found:
                text = f"failed to remove sandbox {sandbox_id}: {reason_of(error)}"
                self._tools.recorder.warning(self._pod, "FailedRemovePodSandBox", text)
                raise StepError("FailedRemovePodSandBox", text) from error

    async def teardown(self) -> None:
        """Unmount volumes and remove the cgroup; nothing of the pod runs any more.

        Raises:
            StepError: something is still in use.
        """
        environment = self._tools.environment

        def held() -> str:
            what = environment.held_up(self._pod) or "giving back what the pod held on the node"
            return f"{what} takes longer than {LATE:g} s; it is waited for"

        try:
            with self._noticing(LATE, "FailedUnmount", held):
                await environment.teardown(self._pod)
        except EnvironmentFault as error:
            self._tools.recorder.warning(self._pod, error.reason, str(error))
            raise StepError(error.reason, str(error)) from error

    async def farewell(self) -> None:
        """Let all who have to see the end of the pod off do so: its last status is told.

        May take as long as the API server is away; what is left of the pod waits for it.
        """
        for each in self._tools.farewells:
            await each(self._pod)

    async def purge(self, view: PodView) -> None:
        """Remove sandboxes, containers, logs, directories and the checkpoint.

        Raises:
            StepError: something could not be removed.
        """
        for box in view.sandboxes:
            await self.remove_sandbox(box.id)
        uid = self._pod.metadata.uid
        try:
            await self._tools.environment.purge(self._pod)
            self._tools.checkpoints.remove(uid)
        except EnvironmentFault as error:
            raise StepError(error.reason, str(error)) from error
        except (OSError, ValueError) as error:
            raise StepError("FailedCleanup", str(error)) from error
        self._tools.images.forget(uid)
        logs.event(_log, logging.INFO, "pod removed", pod=self._pod.metadata.name, uid=uid)
