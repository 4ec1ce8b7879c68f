"""One task per pod: it looks at what is, decides, and carries it out, whenever it is woken.

The mailbox is a bell and some flags, so it is bounded and coalesces whatever comes: a changed
specification, an event of the runtime, a probe's result, a pull that ended, a deadline. What takes
long (pulls, hooks, kills, the step under way) runs in tasks of its own, and wakes the worker when
it is done; so the worker always answers, and a hung container or volume holds up its own pod only.

::

    run:   bell -> read what is (if stale) -> decide -> publish the status -> start a step -> wait
    steps: end the pod | create the sandbox | start containers, remove what nobody needs
    beside them: a task per pull, a task per container being ended, a task per probe
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition, PodStatus
from kubeletpy.cri.client import CriError
from kubeletpy.probes.worker import PodProbes
from kubeletpy.resize.plan import Resize
from kubeletpy.resize.pod import ResizeError, ResizeOfPod
from kubeletpy.sources.updates import from_api
from kubeletpy.status.generate import pod_status
from kubeletpy.why.story import Doing, Known
from kubeletpy.why.words import words_of
from kubeletpy_common import logs

from .actions import alive, decide
from .announce import Announcer
from .backoff import STEP
from .checkpoint import Saved
from .observe import PodView
from .plan import Actions, Desired, KillContainer, StartContainer
from .restore import TERMINAL, attempts_of, seeds, terminal_of
from .state import (
    KILL_STEP,
    RESET_STEP,
    RESIZE_STEP,
    SANDBOX_STEP,
    ContainerPhase,
    ImagePhase,
    ImageState,
    KillReason,
    Observed,
    StepFailure,
    Terminal,
    frozen,
)
from .steps import StepError, Steps, Tools, grace_of

_log = logging.getLogger(__name__)
READ_TIMEOUT = 20.0
"""Seconds that reading the state of one pod may take."""
READ_RETRY = 1.0
LONGEST_SLEEP = 3600.0
BRIEF = 0.5
"""Seconds for which events wait for the end of a step that usually takes milliseconds: each of them
would have the state read anew, and once more when the step is done."""
_SHORTER = 0.5
"""Seconds by which a grace has to be shorter than what is left to hurry a termination."""
_BY_OBJECTS = frozenset({"FailedMount", "CreateContainerConfigError"})
"""Failures that may be over when a ConfigMap or Secret changes."""
STEP_CANCEL_WAIT = 10.0
"""Seconds that a step under way gets to finish when the pod is to end."""


class PodWorker:
    """Runs one pod from its first sandbox to its removal.

    Args:
        desired: the pod as it shall be.
        tools: what all workers share.
        saved: what an earlier kubelet left about it.
        published: called with each new status.
        fresh: the runtime is known to have nothing of the pod: it need not be asked.
    """

    def __init__(
        self,
        desired: Desired,
        tools: Tools,
        saved: Saved | None = None,
        published: Callable[[Pod, PodStatus], None] | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        self.desired = desired
        self.status = PodStatus(phase="Pending")
        self._tools = tools
        self._published = published
        self._steps = Steps(desired.pod, tools, self._held_up)
        self._probes = PodProbes(
            desired.pod, tools.check, tools.recorder, self.wake, tools.measures.probe
        )
        self._view = PodView()
        self._images: dict[str, ImageState] = {}
        self._failures: dict[str, StepFailure] = {}
        self._killed: dict[str, KillReason] = {}
        self._killed_at: dict[str, float] = {}
        self._attempts: dict[str, int] = {}
        self._announcer = Announcer(tools.recorder)
        self._resize = ResizeOfPod(
            desired.pod.metadata.uid,
            tools.resizes,
            tools.executor,
            tools.recorder,
            self._save_amounts,
            dict(saved.amounts) if saved is not None else {},
        )
        self._concluded: Terminal | None = None
        self._started_at = tools.clock()
        self._bell = asyncio.Event()
        self._stale = not fresh
        self._first = True
        self._ending = asyncio.Event()
        self._grace: int | None = None
        self._deadline: float | None = None
        self._hurried = False
        self._disruption: PodCondition | None = None
        self._told = False
        self.over = asyncio.Event()
        """Set once nothing of the pod runs any more, and nothing ever will."""
        self._gone = False
        self._step: asyncio.Task[None] | None = None
        self._ending_step = False
        self._starting: set[str] = set()
        self._torn_down = False
        self._brief_until = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._doing: dict[str, Doing] = {}
        if saved is None and from_api(desired.pod) and desired.pod.status.start_time is not None:
            # What a kubelet before told the API server is all that is known of the pod's past.
            saved = Saved(desired.pod, desired.pod.status)
        if saved is not None:
            self._restore(saved)
        self._follow_end()

    @property
    def pod(self) -> Pod:
        """The pod's specification."""
        return self.desired.pod

    @property
    def ending(self) -> bool:
        """Whether the pod is being terminated."""
        return self._ending.is_set()

    @property
    def longest_grace(self) -> int:
        """Seconds that its termination may take by its own settings."""
        return grace_of(self.pod)

    def update(self, desired: Desired) -> None:
        """Take over a changed specification of the same pod: an image, an ephemeral container."""
        before, pod = self.desired.pod, desired.pod
        self.desired = desired
        self._steps.update(pod)
        self._probes.update(pod)
        self._forget_images(before)
        self._follow_end()
        if before.spec != pod.spec:
            self._failures.pop(RESIZE_STEP, None)
        if before.spec != pod.spec or before.metadata != pod.metadata:
            self._save(lambda: self._tools.checkpoints.save_pod(pod))
            self._tools.environment.changed(pod)
        self.wake()

    def _forget_images(self, before: Pod) -> None:
        """Ask anew for the image of each container that names another one now."""
        for container in (*before.spec.init_containers, *before.spec.containers):
            now = self._steps.containers.get(container.name)
            image = self._images.get(container.name)
            if now is None or now.image == container.image or image is None:
                continue
            if image.phase is not ImagePhase.PULLING:
                del self._images[container.name]

    def _follow_end(self) -> None:
        """End the pod if the API server says that it has come to its end, whoever wrote that."""
        status = self.pod.status
        if from_api(self.pod) and self.status.phase not in TERMINAL:
            ended = terminal_of(status)
            if ended is not None:
                self.conclude(ended)

    def conclude(
        self,
        terminal: Terminal,
        *,
        grace: int | None = None,
        disruption: PodCondition | None = None,
    ) -> None:
        """End all containers of the pod for good; what is left of it stays until it is deleted.

        Args:
            terminal: phase, reason and message, told once nothing runs any more.
            grace: seconds that the containers get; None: the pod's own.
            disruption: the condition DisruptionTarget, if it is not the pod's own doing.
        """
        if self._concluded is not None:
            return
        self._concluded, self._disruption = terminal, disruption
        if grace is not None:
            self._grace = grace if self._grace is None else min(self._grace, grace)
        self._bell.set()

    def running_logs(self) -> list[tuple[str, str]]:
        """Return id and log file of each running container, as last seen."""
        return [
            (record.id, record.log_path)
            for record in self._view.containers
            if record.running and record.log_path
        ]

    def wake(self) -> None:
        """Decide again: something changed that the runtime does not know of."""
        self._bell.set()

    def retry(self) -> None:
        """Try at once what failed for want of an object of the API server: one has changed."""
        now = self._tools.clock()
        for key, failure in self._failures.items():
            if failure.reason in _BY_OBJECTS:
                self._failures[key] = replace(failure, retry_at=now)
        self.wake()

    def refresh(self) -> None:
        """Read the state of the pod again: something changed in the runtime."""
        self._stale = True
        self._bell.set()

    def terminate(self, grace: int | None = None) -> None:
        """End the pod and remove all of it; ``grace`` in seconds, None: the pod's own."""
        if grace is not None:
            self._grace = grace if self._grace is None else min(self._grace, grace)
            until = self._tools.clock() + grace
            if self._deadline is not None and until < self._deadline - _SHORTER:
                self._deadline, self._hurried = until, True
        self._ending.set()
        self._bell.set()

    def _restore(self, saved: Saved) -> None:
        status = saved.status
        if status is not None:
            self.status = status
            if status.start_time is not None:
                self._started_at = status.start_time.timestamp()
            self._concluded = terminal_of(status)
            for container_id, results in seeds(self.pod, status).items():
                self._probes.seed(container_id, results)
            self._attempts |= attempts_of(status)
        if saved.ending_deadline is not None:
            self._deadline = saved.ending_deadline
            self._ending.set()

    async def run(self) -> None:
        """Work until the pod is gone; cancelling leaves the pod as it is."""
        self._save(lambda: self._tools.checkpoints.save_pod(self.pod))
        self._tools.environment.admit(self.pod)
        try:
            while not self._gone:
                self._bell.clear()
                wake_at = self._brief_until if self._in_brief_step() else await self._round()
                if self._gone:
                    break
                await self._wait(wake_at)
        finally:
            if self._gone:
                self.over.set()
            await self._close()

    def _in_brief_step(self) -> bool:
        """Whether a step is under way that is about to end, after which all is looked at anyway."""
        brief = self._step is not None and self._tools.clock() < self._brief_until
        return brief and not self.ending

    async def _wait(self, wake_at: float | None) -> None:
        timeout = LONGEST_SLEEP
        if wake_at is not None:
            timeout = min(max(wake_at - self._tools.clock(), 0.01), LONGEST_SLEEP)
        try:
            async with asyncio.timeout(timeout):
                await self._bell.wait()
        except TimeoutError:
            pass

    async def _close(self) -> None:
        tasks = [*self._tasks.values()]
        if self._step is not None:
            tasks.append(self._step)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._probes.close()

    async def _round(self) -> float | None:
        """Look, decide, act once, and tell how long it took; return when to do so again."""
        begun = time.monotonic()
        operation = "terminating" if self.ending else "create" if self._first else "sync"
        try:
            return await self._look_and_act()
        finally:
            self._first = False
            self._tools.measures.round(operation, time.monotonic() - begun)

    async def _look_and_act(self) -> float | None:
        if not await self._read():
            return self._tools.clock() + READ_RETRY
        now = self._tools.clock()
        observed = self._observed()
        actions = decide(self.desired, observed, now)
        if self._resize.conditions_of(self.pod, resizing=actions.resizing):
            observed = self._observed()
        if actions.terminal is not None:
            self._concluded = actions.terminal
        self._publish(observed, actions, now)
        self._announcer.tell(self.desired, observed, actions)
        sandbox = observed.sandbox
        self._probes.sync(
            (record for record in observed.containers if record.running),
            self._steps.address(sandbox),
            ending=self.ending,
        )
        if self.ending:
            return await self._end(now)
        self._act(actions)
        times = [actions.wake_at] if actions.wake_at is not None else []
        if actions.terminal is not None and not self._torn_down:
            times += [self._failures[key].retry_at for key in (KILL_STEP,) if key in self._failures]
        return min(times) if times else None

    async def _read(self) -> bool:
        if not self._stale:
            return True
        self._stale = False
        lived = sum(record.running for record in self._view.containers)
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                self._view = await self._tools.observer.pod(self.pod.metadata.uid)
        except (CriError, TimeoutError) as error:
            self._stale = True
            logs.event(
                _log, logging.WARNING, "pod state could not be read",
                pod=self.desired.description, reason=str(error) or "timeout",
            )  # fmt: skip
            return False
        known = {record.id for record in self._view.containers}
        self._hasten(lived)
        known |= {box.id for box in self._view.sandboxes}
        for record in self._view.containers:
            if record.phase is not ContainerPhase.CREATED:
                highest = max(self._attempts.get(record.name, 0), record.attempt)
                self._attempts[record.name] = highest
        self._resize.forget(known)
        steps = {SANDBOX_STEP, KILL_STEP, RESET_STEP, RESIZE_STEP}
        names = set(self._steps.containers) | steps
        for key in [key for key in self._failures if key not in known | names]:
            del self._failures[key]
        ended = {one.id: one.finished_at for one in self._view.containers if one.exited}
        for key, at in list(self._killed_at.items()):
            # One that had ended by itself before it was to be killed has not been killed.
            if key not in known or ended.get(key, at) < at:
                self._killed.pop(key, None)
                del self._killed_at[key]
        return True

    def _hasten(self, lived: int) -> None:
        """Go on at once with an end that was held up by a container which has ended now."""
        failure = self._failures.get(KILL_STEP)
        if failure is None or lived <= sum(record.running for record in self._view.containers):
            return
        self._failures[KILL_STEP] = replace(failure, retry_at=self._tools.clock())

    def _observed(self) -> Observed:
        return Observed(
            sandboxes=self._view.sandboxes,
            containers=self._view.containers,
            probes=frozen(self._probes.results),
            images=frozen(self._images),
            failures=frozen(self._failures),
            killed=frozen(self._killed),
            started_at=self._started_at,
            concluded=self._concluded,
            attempts=frozen(self._attempts),
            ending=self.ending,
            actual=self._resize.actual(
                self.pod, running=any(box.ready for box in self._view.sandboxes)
            ),
        )

    def _publish(self, observed: Observed, actions: Actions, now: float) -> None:
        status = pod_status(
            self.desired, observed, actions, node=self._tools.node, now=now, previous=self.status
        )
        for add in self._tools.status_adders:
            add(self.pod, status)
        if self._disruption is not None and status.phase in TERMINAL:
            _set_condition(status, self._disruption)
        if status == self.status and self._told:
            return
        if status != self.status:
            uid = self.pod.metadata.uid
            self._save(lambda: self._tools.checkpoints.save_status(uid, status))
        self.status = status
        self._told = True
        if status.phase in TERMINAL:
            self.over.set()
        if self._published is not None:
            self._published(self.pod, status)

    def _save_amounts(self, amounts: dict[str, str]) -> None:
        uid = self.pod.metadata.uid
        self._save(lambda: self._tools.checkpoints.save_amounts(uid, amounts))

    def _save(self, write: Callable[[], None]) -> None:
        if self._gone:
            # Nobody would remove it again: what comes now is late news of a pod that is no more.
            return
        try:
            write()
        except (OSError, ValueError) as error:
            # A full disk must not stop the pod; only a restart of the kubelet would notice.
            logs.event(
                _log, logging.ERROR, "checkpoint not written",
                pod=self.desired.description, reason=str(error),
            )  # fmt: skip

    def _act(self, actions: Actions) -> None:
        for kill in actions.kill:
            self._spawn(f"kill {kill.id}", partial(self._kill, kill))
        for name in actions.pull:
            # The image of a container that is being started is in use by that very step.
            if name not in self._starting:
                # The runtime's containers are the same after a pull.
                self._spawn(f"pull {name}", partial(self._pull, name), self.wake)
        if self._step is not None:
            return
        if (
            actions.kill_pod
            or actions.create_sandbox is not None
            or actions.reset
            or actions.resize is not None
            or actions.start
            or actions.remove_containers
            or actions.remove_sandboxes
        ):
            self._starting = {start.name for start in actions.start}
            self._brief_until = self._tools.clock() + BRIEF if self._brief(actions) else 0.0
            self._begin(self._execute(actions), words_of(actions))
        elif self._may_retire(actions):
            self._begin(self._retire(), "giving back what the pod held on the node")

    def known(self, runtime_fault: str = "") -> Known:
        """Return what is known of the pod right now, for the story of it."""
        observed = self._observed()
        return Known(
            desired=self.desired,
            observed=observed,
            actions=decide(self.desired, observed, self._tools.clock()),
            status=self.status,
            doing=tuple(self._doing.values()),
            ending_until=self._deadline or 0.0 if self.ending else 0.0,
            runtime_fault=runtime_fault,
        )

    def _brief(self, actions: Actions) -> bool:
        """Whether what is to be done is usually done within milliseconds."""
        if actions.create_sandbox is not None:
            return True
        starting = (self._steps.containers[start.name] for start in actions.start)
        return bool(actions.start) and not any(
            one.lifecycle is not None and one.lifecycle.post_start is not None for one in starting
        )

    def _begin(self, step: Coroutine[Any, Any, None], what: str) -> None:
        self._doing[""] = Doing(what, self._tools.clock())
        self._step = asyncio.create_task(step, name=f"step {self.desired.description}")
        self._step.add_done_callback(self._step_done)

    def _step_done(self, task: asyncio.Task[None]) -> None:
        if self._step is task:
            self._step = None
            self._doing.pop("", None)
        self._starting = set()
        self._report(task)
        self.refresh()

    def _report(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        error = task.exception()
        logs.event(
            _log, logging.ERROR, "step broke", pod=self.desired.description,
            task=task.get_name(), reason=repr(error),
        )  # fmt: skip
        # Whatever it was, it must not be tried again in a tight loop.
        for key in (SANDBOX_STEP, KILL_STEP, RESET_STEP, *self._steps.containers):
            self._fail(key, StepError("InternalError", repr(error)))

    def _spawn(
        self,
        key: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        then: Callable[[], None] | None = None,
    ) -> None:
        if key in self._tasks:
            return
        task = asyncio.create_task(work(), name=f"{key} {self.desired.description}")
        self._tasks[key] = task
        verb, _, what = key.partition(" ")
        words = {"kill": "ending container", "pull": "getting the image of container"}[verb]
        self._doing[key] = Doing(f"{words} {what}", self._tools.clock())

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.pop(key, None)
            self._doing.pop(key, None)
            self._report(task)
            (then or self.refresh)()

        task.add_done_callback(done)

    def _fail(self, key: str, error: StepError) -> None:
        before = self._failures.get(key)
        count = 1 if before is None else before.count + 1
        now = self._tools.clock()
        since = now if before is None else before.since
        self._failures[key] = StepFailure(
            error.reason, error.message, count, now + STEP.delay(count), since
        )

    def _held_up(self, error: StepError) -> None:
        """Show what holds up the end of the pod; it is waited for still, and has not failed."""
        before = self._failures.get(KILL_STEP)
        count, since = (before.count, before.since) if before else (0, self._tools.clock())
        self._failures[KILL_STEP] = StepFailure(error.reason, error.message, count, 0.0, since)
        self.wake()

    async def _execute(self, actions: Actions) -> None:
        if actions.kill_pod:
            await self._kill_pod(actions)
            return
        if actions.create_sandbox is not None:
            await self._create_sandbox(actions.create_sandbox)
            return
        if actions.reset:
            await self._try(RESET_STEP, self._steps.reset(actions.reset, self._view))
            return
        if actions.resize is not None:
            await self._try(RESIZE_STEP, self._change_limits(actions.resize))
        for start in actions.start:
            if self.ending:
                return
            await self._start(start)
        logs_of = {record.id: record.log_path for record in self._view.containers}
        for key in actions.remove_containers:
            await self._try(key, self._steps.remove_container(key, logs_of.get(key, "")))
        for key in actions.remove_sandboxes:
            await self._try(key, self._steps.remove_sandbox(key))

    async def _try(self, key: str, step: Coroutine[Any, Any, object]) -> bool:
        try:
            await step
        except StepError as error:
            self._fail(key, error)
            return False
        self._failures.pop(key, None)
        return True

    async def _create_sandbox(self, attempt: int) -> None:
        if attempt > 0:
            message = "Pod sandbox changed, it will be killed and re-created."
            self._tools.recorder.normal(self.pod, "SandboxChanged", message)
        if await self._try(SANDBOX_STEP, self._steps.create_sandbox(attempt)):
            self._resize.made(self.pod)

    async def _change_limits(self, resize: Resize) -> None:
        try:
            await self._resize.run(self.pod, self._view.sandboxes[0].id, resize)
        except ResizeError as error:
            self._resize.failed(self.pod, str(error))
            raise StepError("ResizeError", str(error)) from error

    async def _start(self, start: StartContainer) -> None:
        image = self._images.pop(start.name, None)
        sandbox = self._view.sandboxes[0] if self._view.sandboxes else None
        if image is None or image.phase is not ImagePhase.PRESENT or sandbox is None:
            return
        try:
            await self._steps.start(start, image, sandbox, self._ending)
        except StepError as error:
            self._fail(start.name, error)
            if error.reason == "PostStartHookError":
                await self._kill_after_hook(start.name)
        else:
            self._failures.pop(start.name, None)

    async def _kill_after_hook(self, name: str) -> None:
        try:
            view = await self._tools.observer.pod(self.pod.metadata.uid)
        except CriError as error:
            self._fail(name, StepError("PostStartHookError", str(error)))
            return
        for record in view.containers:
            if record.name == name and record.running:
                kill = KillContainer(record.id, name, KillReason.HOOK, "FailedPostStartHook")
                await self._kill(kill)

    async def _kill(self, kill: KillContainer) -> None:
        self._mark(kill.id, kill.reason)
        grace = grace_of(self.pod) if kill.grace is None else kill.grace
        record = next((one for one in self._view.containers if one.id == kill.id), None)
        sandbox = next(
            (box for box in self._view.sandboxes if record and box.id == record.sandbox_id), None
        )
        await self._try(kill.id, self._steps.kill(kill.id, kill.name, kill.message, grace, sandbox))

    async def _pull(self, name: str) -> None:
        before = self._images.get(name)
        # While it is asked again, the status goes on to show what failed.
        self._images[name] = ImageState(
            ImagePhase.PULLING,
            reason=before.reason if before else "",
            message=before.message if before else "",
            failed_at=before.failed_at if before else 0.0,
            since=before.since if before else 0.0,
            tried=before.tried if before else 0,
        )
        attempt = self._view.sandboxes[0].attempt if self._view.sandboxes else 0
        container = self._steps.containers[name]
        try:
            config, _ = self._tools.environment.sandbox(self.pod, attempt)
            self._images[name] = await self._tools.images.ensure(self.pod, container, config)
        except BaseException:
            self._images.pop(name, None)
            raise

    def _mark(self, container_id: str, reason: KillReason) -> None:
        if container_id not in self._killed:
            self._killed[container_id] = reason
            self._killed_at[container_id] = self._tools.clock()

    async def _kill_pod(self, actions: Actions) -> None:
        for record in self._view.containers:
            if not record.exited:
                self._mark(record.id, KillReason.POD)
        grace = grace_of(self.pod) if self._grace is None else self._grace
        await self._try(KILL_STEP, self._steps.kill_all(self._view, grace))

    def _may_retire(self, actions: Actions) -> bool:
        """Whether what an ended pod held on the node is to be given back now."""
        if actions.terminal is None or self._torn_down:
            return False
        if alive(Observed(sandboxes=self._view.sandboxes, containers=self._view.containers)):
            return False
        failure = self._failures.get(KILL_STEP)
        return failure is None or self._tools.clock() >= failure.retry_at

    async def _retire(self) -> None:
        self._torn_down = await self._try(KILL_STEP, self._steps.teardown())

    async def _end(self, now: float) -> float | None:
        """Drive the termination; return when to look again."""
        if self._deadline is None:
            grace = grace_of(self.pod) if self._grace is None else self._grace
            self._deadline = deadline = now + grace
            uid = self.pod.metadata.uid
            self._save(lambda: self._tools.checkpoints.save_ending(uid, deadline))
        if self._hurried and self._ending_step and self._step is not None:
            # Whatever is waited for with the longer grace is asked again with the shorter one.
            self._step.cancel()
            return None
        if self._ending_step:
            return None
        if self._hurried:
            self._hurried = False
            uid, deadline = self.pod.metadata.uid, self._deadline
            self._save(lambda: self._tools.checkpoints.save_ending(uid, deadline))
        failure = self._failures.get(KILL_STEP)
        if failure is not None and now < failure.retry_at:
            return failure.retry_at
        self._ending_step = True
        earlier = self._step
        self._begin(self._terminate(earlier, now), "ending the pod and removing what it had")
        return None

    async def _terminate(self, earlier: asyncio.Task[None] | None, now: float) -> None:
        try:
            await self._settle(earlier)
            self._gone = await self._try(KILL_STEP, self._remove(now))
        finally:
            self._ending_step = False

    async def _settle(self, earlier: asyncio.Task[None] | None) -> None:
        """Let what is under way come to an end, so that nothing new appears afterwards."""
        tasks = [task for key, task in self._tasks.items() if key.startswith("pull ")]
        for task in tasks:
            task.cancel()
        if earlier is not None:
            await asyncio.wait((earlier,), timeout=STEP_CANCEL_WAIT)
            earlier.cancel()
            tasks.append(earlier)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _being_killed(self) -> frozenset[str]:
        return frozenset(
            key.removeprefix("kill ") for key in self._tasks if key.startswith("kill ")
        )

    async def _remove(self, now: float) -> None:
        uid = self.pod.metadata.uid
        try:
            view = await self._tools.observer.pod(uid)
            if alive(Observed(sandboxes=view.sandboxes, containers=view.containers)):
                left = 0.0 if self._deadline is None else max(self._deadline - now, 0.0)
                await self._steps.kill_all(view, left, self._being_killed())
                view = await self._tools.observer.pod(uid)
        except CriError as error:
            raise StepError("FailedKillPod", str(error)) from error
        self._tell_end(view)
        await self._steps.teardown()
        await self._steps.farewell()
        await self._steps.purge(view)

    def _tell_end(self, view: PodView) -> None:
        """Publish the last status, now that nothing lives any more."""
        self._view, self._stale = view, False
        now = self._tools.clock()
        observed = self._observed()
        actions = decide(self.desired, observed, now)
        if actions.terminal is not None:
            self._concluded = actions.terminal
        self._publish(observed, actions, now)


def _set_condition(status: PodStatus, condition: PodCondition) -> None:
    """Put ``condition`` in the place of the one of its type, with the time of its change."""
    before = next((one for one in status.conditions if one.type == condition.type), None)
    if before is not None and before.status == condition.status:
        condition.last_transition_time = before.last_transition_time
    status.conditions = [
        *(one for one in status.conditions if one.type != condition.type), condition
    ]  # fmt: skip
