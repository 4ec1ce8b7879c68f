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
from collections.abc import Callable
from functools import partial

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition, PodStatus
from kubeletpy.cri.client import CriError
from kubeletpy.probes.worker import PodProbes
from kubeletpy.resize.pod import ResizeOfPod
from kubeletpy.sources.updates import from_api
from kubeletpy.status.conditions import set_condition
from kubeletpy.status.generate import pod_status
from kubeletpy.why.story import Known
from kubeletpy.why.words import words_of
from kubeletpy_common import logs

from .actions import alive, decide
from .announce import Announcer
from .checkpoint import Saved
from .execution import Execution
from .memory import Memory
from .observe import PodView
from .plan import Actions, Desired
from .restore import TERMINAL, attempts_of, seeds, terminal_of
from .state import KILL_STEP, RESET_STEP, RESIZE_STEP, SANDBOX_STEP, Observed, Terminal, frozen
from .steps import StepError, Steps, grace_of
from .tasks import PodTasks
from .tools import Tools

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
        self._memory = Memory(tools.clock)
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
        self._ending_step = False
        self._torn_down = False
        self._brief_until = 0.0
        self._tasks = PodTasks(desired.description, tools.clock, self._broke, self.refresh)
        self._execution = Execution(self._steps, self._memory, self._resize, tools, self._ending)
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
        self._memory.forget_images(before, self._steps.containers)
        self._follow_end()
        if before.spec != pod.spec:
            self._memory.succeed(RESIZE_STEP)
        if before.spec != pod.spec or before.metadata != pod.metadata:
            self._save(lambda: self._tools.checkpoints.save_pod(pod))
            self._tools.environment.changed(pod)
        self.wake()

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

    def succeed(self, broken: PodWorker) -> None:
        """Take over what a worker of the same pod was told before a defect ended it."""
        # Somebody may be waiting for it.
        self.over = broken.over
        if broken._concluded is not None:
            self.conclude(broken._concluded, grace=broken._grace, disruption=broken._disruption)
        if broken.ending:
            self.terminate(broken._grace)

    def running_logs(self) -> list[tuple[str, str]]:
        """Return id and log file of each running container, as last seen."""
        return [
            (record.id, record.log_path)
            for record in self._memory.view.containers
            if record.running and record.log_path
        ]

    def wake(self) -> None:
        """Decide again: something changed that the runtime does not know of."""
        self._bell.set()

    def retry(self) -> None:
        """Try at once what failed for want of an object of the API server: one has changed."""
        self._memory.retry(_BY_OBJECTS)
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
            self._memory.attempts |= attempts_of(status)
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
        brief = self._tasks.step is not None and self._tools.clock() < self._brief_until
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
        await self._tasks.close()
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
        held = self._memory.failures.get(KILL_STEP)
        if actions.terminal is not None and not self._torn_down and held is not None:
            times.append(held.retry_at)
        return min(times) if times else None

    async def _read(self) -> bool:
        if not self._stale:
            return True
        self._stale = False
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                view = await self._tools.observer.pod(self.pod.metadata.uid)
        except (CriError, TimeoutError) as error:
            self._stale = True
            logs.event(
                _log, logging.WARNING, "pod state could not be read",
                pod=self.desired.description, reason=str(error) or "timeout",
            )  # fmt: skip
            return False
        self._resize.forget(self._memory.see(view, self._steps.containers))
        return True

    def _observed(self) -> Observed:
        memory = self._memory
        return Observed(
            sandboxes=memory.view.sandboxes,
            containers=memory.view.containers,
            probes=frozen(self._probes.results),
            images=frozen(memory.images),
            failures=frozen(memory.failures),
            killed=frozen(memory.killed),
            started_at=self._started_at,
            concluded=self._concluded,
            attempts=frozen(memory.attempts),
            ending=self.ending,
            actual=self._resize.actual(
                self.pod, running=any(box.ready for box in memory.view.sandboxes)
            ),
        )

    def _publish(self, observed: Observed, actions: Actions, now: float) -> None:
        status = pod_status(
            self.desired, observed, actions, node=self._tools.node, now=now, previous=self.status
        )
        for add in self._tools.status_adders:
            add(self.pod, status)
        if self._disruption is not None and status.phase in TERMINAL:
            set_condition(status, self._disruption)
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
            self._tasks.beside(f"kill {kill.id}", partial(self._execution.kill, kill))
        for name in actions.pull:
            # The image of a container that is being started is in use by that very step.
            if name not in self._tasks.starting:
                # The runtime's containers are the same after a pull.
                self._tasks.beside(f"pull {name}", partial(self._execution.pull, name), self.wake)
        if self._tasks.step is not None:
            return
        if actions.has_step:
            brief = actions.is_brief(self._steps.containers)
            self._brief_until = self._tools.clock() + BRIEF if brief else 0.0
            self._tasks.begin(
                self._execution.carry_out(actions, self._grace),
                words_of(actions),
                frozenset(start.name for start in actions.start),
            )
        elif self._may_retire(actions):
            self._tasks.begin(self._retire(), "giving back what the pod held on the node")

    def known(self, runtime_fault: str = "") -> Known:
        """Return what is known of the pod right now, for the story of it."""
        observed = self._observed()
        return Known(
            desired=self.desired,
            observed=observed,
            actions=decide(self.desired, observed, self._tools.clock()),
            status=self.status,
            doing=self._tasks.doing,
            ending_until=self._deadline or 0.0 if self.ending else 0.0,
            runtime_fault=runtime_fault,
        )

    def _broke(self, error: StepError) -> None:
        # Whatever it was, it must not be tried again in a tight loop.
        for key in (SANDBOX_STEP, KILL_STEP, RESET_STEP, *self._steps.containers):
            self._memory.fail(key, error)

    def _held_up(self, error: StepError) -> None:
        """Show what holds up the end of the pod."""
        self._memory.held_up(error)
        self.wake()

    def _may_retire(self, actions: Actions) -> bool:
        """Whether what an ended pod held on the node is to be given back now."""
        if actions.terminal is None or self._torn_down:
            return False
        view = self._memory.view
        if alive(Observed(sandboxes=view.sandboxes, containers=view.containers)):
            return False
        return self._tools.clock() >= self._memory.retry_at(KILL_STEP)

    async def _retire(self) -> None:
        self._torn_down = await self._execution.attempt(KILL_STEP, self._steps.teardown())

    async def _end(self, now: float) -> float | None:
        """Drive the termination; return when to look again."""
        if self._deadline is None:
            grace = grace_of(self.pod) if self._grace is None else self._grace
            self._deadline = deadline = now + grace
            uid = self.pod.metadata.uid
            self._save(lambda: self._tools.checkpoints.save_ending(uid, deadline))
        if self._hurried and self._ending_step and self._tasks.step is not None:
            # Whatever is waited for with the longer grace is asked again with the shorter one.
            self._tasks.step.cancel()
            return None
        if self._ending_step:
            return None
        if self._hurried:
            self._hurried = False
            uid, deadline = self.pod.metadata.uid, self._deadline
            self._save(lambda: self._tools.checkpoints.save_ending(uid, deadline))
        retry_at = self._memory.retry_at(KILL_STEP)
        if now < retry_at:
            return retry_at
        self._ending_step = True
        earlier = self._tasks.step
        self._tasks.begin(self._terminate(earlier, now), "ending the pod and removing what it had")
        return None

    async def _terminate(self, earlier: asyncio.Task[None] | None, now: float) -> None:
        try:
            await self._tasks.settle(earlier)
            self._gone = await self._execution.attempt(KILL_STEP, self._remove(now))
        finally:
            self._ending_step = False

    async def _remove(self, now: float) -> None:
        uid = self.pod.metadata.uid
        try:
            view = await self._tools.observer.pod(uid)
            if alive(Observed(sandboxes=view.sandboxes, containers=view.containers)):
                left = 0.0 if self._deadline is None else max(self._deadline - now, 0.0)
                await self._steps.kill_all(view, left, self._tasks.being_killed)
                view = await self._tools.observer.pod(uid)
        except CriError as error:
            raise StepError("FailedKillPod", str(error)) from error
        self._tell_end(view)
        await self._steps.teardown()
        await self._steps.farewell()
        await self._steps.purge(view)

    def _tell_end(self, view: PodView) -> None:
        """Publish the last status, now that nothing lives any more."""
        self._memory.view, self._stale = view, False
        now = self._tools.clock()
        observed = self._observed()
        actions = decide(self.desired, observed, now)
        if actions.terminal is not None:
            self._concluded = actions.terminal
        self._publish(observed, actions, now)
