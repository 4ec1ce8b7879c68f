"""Carrying out what was decided for a pod, step by step; what fails is remembered, not raised."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriError
from kubeletpy.resize.plan import Resize
from kubeletpy.resize.pod import ResizeError, ResizeOfPod

from .memory import Memory
from .plan import Actions, KillContainer, StartContainer
from .state import (
    KILL_STEP,
    RESET_STEP,
    RESIZE_STEP,
    SANDBOX_STEP,
    ImagePhase,
    ImageState,
    KillReason,
)
from .steps import StepError, Steps, grace_of
from .tools import Tools


class Execution:
    """Carries out the `Actions` of one pod.

    Args:
        steps: those of the pod.
        memory: where it is seen what there is, and remembered what failed.
        resize: changes the limits of what runs.
        tools: what all workers share.
        ending: set once the pod is to end: nothing is started any more.
    """

    def __init__(
        self,
        steps: Steps,
        memory: Memory,
        resize: ResizeOfPod,
        tools: Tools,
        ending: asyncio.Event,
    ) -> None:
        self._steps = steps
        self._memory = memory
        self._resize = resize
        self._tools = tools
        self._ending = ending

    @property
    def _pod(self) -> Pod:
        return self._steps.pod

    async def attempt(self, key: str, step: Coroutine[Any, Any, object]) -> bool:
        """Take a step; return whether it went well, and remember under ``key`` if it did not."""
        try:
            await step
        except StepError as error:
            self._memory.fail(key, error)
            return False
        self._memory.succeed(key)
        return True

    async def carry_out(self, actions: Actions, grace: int | None) -> None:
        """Carry out the first thing that is to be done, or all that can be done at once.

        Args:
            actions: what was decided.
            grace: seconds that the pod gets, if it is to be killed; None: its own.
        """
        if actions.kill_pod:
            await self._kill_pod(grace_of(self._pod) if grace is None else grace)
            return
        if actions.create_sandbox is not None:
            await self._create_sandbox(actions.create_sandbox)
            return
        view = self._memory.view
        if actions.reset:
            await self.attempt(RESET_STEP, self._steps.reset(actions.reset, view))
            return
        if actions.resize is not None:
            await self.attempt(RESIZE_STEP, self._change_limits(actions.resize))
        for start in actions.start:
            if self._ending.is_set():
                return
            await self._start(start)
        logs_of = {record.id: record.log_path for record in self._memory.view.containers}
        for key in actions.remove_containers:
            await self.attempt(key, self._steps.remove_container(key, logs_of.get(key, "")))
        for key in actions.remove_sandboxes:
            await self.attempt(key, self._steps.remove_sandbox(key))

    async def kill(self, kill: KillContainer) -> None:
        """End one container."""
        self._memory.mark(kill.id, kill.reason)
        grace = grace_of(self._pod) if kill.grace is None else kill.grace
        view = self._memory.view
        record = next((one for one in view.containers if one.id == kill.id), None)
        sandbox = next(
            (box for box in view.sandboxes if record and box.id == record.sandbox_id), None
        )
        step = self._steps.kill(kill.id, kill.name, kill.message, grace, sandbox)
        await self.attempt(kill.id, step)

    async def pull(self, name: str) -> None:
        """Get the image of a container, by its name."""
        memory = self._memory
        before = memory.images.get(name)
        # While it is asked again, the status goes on to show what failed.
        memory.images[name] = ImageState(
            ImagePhase.PULLING,
            reason=before.reason if before else "",
            message=before.message if before else "",
            failed_at=before.failed_at if before else 0.0,
            since=before.since if before else 0.0,
            tried=before.tried if before else 0,
        )
        attempt = memory.view.sandboxes[0].attempt if memory.view.sandboxes else 0
        container = self._steps.containers[name]
        try:
            config, _ = self._tools.environment.sandbox(self._pod, attempt)
            memory.images[name] = await self._tools.images.ensure(self._pod, container, config)
        except BaseException:
            memory.images.pop(name, None)
            raise

    async def _create_sandbox(self, attempt: int) -> None:
        if attempt > 0:
            message = "Pod sandbox changed, it will be killed and re-created."
            self._tools.recorder.normal(self._pod, "SandboxChanged", message)
        if await self.attempt(SANDBOX_STEP, self._steps.create_sandbox(attempt)):
            self._resize.made(self._pod)

    async def _change_limits(self, resize: Resize) -> None:
        try:
            await self._resize.run(self._pod, self._memory.view.sandboxes[0].id, resize)
        except ResizeError as error:
            self._resize.failed(self._pod, str(error))
            raise StepError("ResizeError", str(error)) from error

    async def _start(self, start: StartContainer) -> None:
        memory = self._memory
        image = memory.images.pop(start.name, None)
        sandbox = memory.view.sandboxes[0] if memory.view.sandboxes else None
        if image is None or image.phase is not ImagePhase.PRESENT or sandbox is None:
            return
        try:
            await self._steps.start(start, image, sandbox, self._ending)
        except StepError as error:
            memory.fail(start.name, error)
            if error.reason == "PostStartHookError":
                await self._kill_after_hook(start.name)
        else:
            memory.succeed(start.name)

    async def _kill_after_hook(self, name: str) -> None:
        try:
            view = await self._tools.observer.pod(self._pod.metadata.uid)
        except CriError as error:
            self._memory.fail(name, StepError("PostStartHookError", str(error)))
            return
        for record in view.containers:
            if record.name == name and record.running:
                reason = KillReason.HOOK
                await self.kill(KillContainer(record.id, name, reason, "FailedPostStartHook"))

    async def _kill_pod(self, grace: int) -> None:
        view = self._memory.view
        for record in view.containers:
            if not record.exited:
                self._memory.mark(record.id, KillReason.POD)
        await self.attempt(KILL_STEP, self._steps.kill_all(view, grace))
