"""The decision what to do for a pod: a pure function of what shall be, what is, and the time.

It takes the place of the Go kubelet's ``computePodActions``. What it decides is carried out
elsewhere (`steps`), one round after the other: each round looks again at what is, so a decision
never depends on the success of an earlier one. The course of a pod::

    no sandbox -> create sandbox -> init containers, one after the other -> regular containers
        ^                                                                     |
        |  sandbox lost: end what is left of it                               | all ended, and the
        +------------------- attempt n+1 <------------------------------------+ policy restarts none
                             (never once restartPolicy Never                  v
                              has had a container)                     Succeeded | Failed
"""

from __future__ import annotations

from kubeletpy.api.container import Container, Probe
from kubeletpy.sources.updates import from_api

from .collect import garbage
from .plan import FAILED, SUCCEEDED, Actions, Desired, Plan, ResetContainer
from .resizing import resize
from .restarts import (
    NEVER,
    is_sidecar,
    order_of_reset,
    policy_of,
    restarts_all,
    should_restart,
    succeeded,
)
from .state import (
    KILL_STEP,
    RESET_STEP,
    SANDBOX_STEP,
    ContainerPhase,
    ContainerRecord,
    KillReason,
    Observed,
    Outcome,
    SandboxRecord,
    Terminal,
)

DEADLINE_EXCEEDED = Terminal(
    "Failed", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
)


def decide(desired: Desired, observed: Observed, now: float) -> Actions:
    """Return what to do for a pod that shall run.

    Args:
        desired: the pod as it shall be.
        observed: what is known about it.
        now: the time in seconds since the epoch.
    """
    plan = Plan(desired, observed, now)
    if observed.ending:
        return _terminate(plan)
    terminal = observed.concluded or _deadline(plan)
    if terminal is None and restarts_all(desired.pod, observed):
        return _reset(plan)
    if terminal is None:
        reason = sandbox_fault(desired, observed)
        if reason:
            _new_sandbox(plan, reason)
        else:
            sandbox = observed.sandbox
            assert sandbox is not None
            _in_sandbox(plan, sandbox)
        terminal = plan.terminal
    if terminal is not None:
        return _conclude(plan, terminal)
    return plan.finish(garbage(plan))


def _reset(plan: Plan) -> Actions:
    """Remove all containers, so that the next decision starts them anew (KEP-5532)."""
    observed = plan.observed
    plan.initialized = any(
        one.name in observed.attempts or observed.latest(one.name) is not None
        for one in plan.desired.pod.spec.containers
    )
    if _start_the_rest(plan):
        return plan.finish()
    if not plan.blocked(RESET_STEP):
        plan.reset = [
            ResetContainer(record.id, record.name, not record.exited)
            for record in order_of_reset(plan.desired.pod, observed)
        ]
    return plan.finish()


def _start_the_rest(plan: Plan) -> bool:
    """Start the regular containers that one which ended at once has overtaken; return if any do.

    As in the Go kubelet, where one round starts them all: each container of the pod is restarted,
    so each has run. One that cannot start holds up nobody.
    """
    observed, regular = plan.observed, plan.desired.pod.spec.containers
    if sandbox_fault(plan.desired, observed) or not plan.initialized:
        return False
    late = [
        one
        for one in regular
        if one.name not in observed.attempts
        and one.name not in observed.failures
        and observed.latest(one.name) is None
        and ((image := observed.images.get(one.name)) is None or not image.reason)
    ]
    for container in late:
        plan.start(container, None)
    return bool(late)


def _conclude(plan: Plan, terminal: Terminal) -> Actions:
    plan = Plan(plan.desired, plan.observed, plan.now)
    plan.terminal = terminal
    plan.initialized = True
    if alive(plan.observed) and not plan.blocked(KILL_STEP):
        plan.kill_pod = terminal.reason or "all containers have ended"
    return plan.finish(garbage(plan))


def _terminate(plan: Plan) -> Actions:
    """Say what became of a pod that is being terminated; how it is ended is the worker's.

    A pod of the API server comes to an end before it is deleted (KEP-3329): Succeeded if each of
    its regular containers ended with 0, by itself or when it was asked to. A static pod does not.
    """
    desired, observed = plan.desired, plan.observed
    regular = [observed.latest(one.name) for one in desired.pod.spec.containers]
    plan.initialized = any(record is not None for record in regular)
    plan.terminal = observed.concluded
    plan.ended = not alive(observed)
    if plan.ended and plan.terminal is None and from_api(desired.pod):
        done = all(one is not None and one.exited and one.exit_code == 0 for one in regular)
        plan.terminal = SUCCEEDED if done else FAILED
    return plan.finish()


def alive(observed: Observed) -> bool:
    """Whether a container or sandbox of the pod is not known to have ended."""
    return any(box.ready for box in observed.sandboxes) or any(
        record.running
        or (record.phase is ContainerPhase.UNKNOWN and record.id not in observed.killed)
        for record in observed.containers
    )


def _deadline(plan: Plan) -> Terminal | None:
    seconds = plan.desired.pod.spec.active_deadline_seconds
    if seconds is None or not plan.observed.started_at:
        return None
    deadline = plan.observed.started_at + seconds
    if plan.now >= deadline:
        return DEADLINE_EXCEEDED
    plan.wake(deadline)
    return None


def sandbox_fault(desired: Desired, observed: Observed) -> str:
    """Return why the pod needs a new sandbox, or "" if the newest one serves."""
    sandbox = observed.sandbox
    if sandbox is None:
        return "the pod has no sandbox"
    if not sandbox.ready:
        return "the sandbox is not ready any more"
    if sum(box.ready for box in observed.sandboxes) > 1:
        return "more than one sandbox is ready"
    host_network = bool(desired.pod.spec.host_network)
    if sandbox.host_network != host_network:
        return "the sandbox has the other kind of network"
    if not host_network and not sandbox.ips:
        return "the sandbox has no address"
    return ""


def _new_sandbox(plan: Plan, reason: str) -> None:
    desired, observed = plan.desired, plan.observed
    regular = desired.pod.spec.containers
    # The pod stays what it was until its init containers have to run again.
    plan.initialized = any(observed.latest(one.name) is not None for one in regular)
    if observed.containers and not any(_may_run_again(plan, one) for one in regular):
        plan.terminal = _outcome(desired, observed)
        return
    if _vanished(plan):
        plan.initialized = True
        plan.terminal = FAILED
        return
    if regular and all(
        (record := observed.latest(one.name)) is not None
        and record.phase is not ContainerPhase.CREATED
        and not should_restart(desired.pod.spec, one, observed, record)
        for one in regular
    ):
        plan.terminal = _outcome(desired, observed)
        return
    if alive(observed):
        if not plan.blocked(KILL_STEP):
            plan.kill_pod = reason
        return
    if not plan.blocked(SANDBOX_STEP):
        sandbox = observed.sandbox
        plan.create_sandbox = 0 if sandbox is None else sandbox.attempt + 1


def _vanished(plan: Plan) -> bool:
    """Whether the runtime has lost all that it knew of a pod which is to run once only.

    How its containers ended nobody knows; that they did not run is certainly wrong.
    """
    spec, observed = plan.desired.pod.spec, plan.observed
    if observed.sandboxes or observed.containers:
        return False
    begun = any(one.name in observed.attempts for one in spec.containers)
    return begun and all(policy_of(spec, one) == NEVER for one in spec.containers)


def _may_run_again(plan: Plan, container: Container) -> bool:
    """Whether a container of a pod that lost its sandbox may ever run again."""
    spec = plan.desired.pod.spec
    if policy_of(spec, container) != NEVER:
        return True
    record = plan.observed.latest(container.name)
    if not container.restart_policy_rules or record is None:
        return False
    # As long as it has not ended there is no exit code to ask the rules about.
    return not record.exited or should_restart(spec, container, plan.observed, record)


def _in_sandbox(plan: Plan, sandbox: SandboxRecord) -> None:
    for record in plan.observed.containers:
        if record.sandbox_id != sandbox.id and record.running:
            plan.kill(record, KillReason.POD, "left over from an earlier sandbox")
    for container in plan.desired.pod.spec.ephemeral_containers:
        # Started once, whatever becomes of them; also while init containers still run.
        if container.name not in plan.observed.attempts and not plan.observed.history(
            container.name
        ):
            plan.start_ephemeral(container)
    resize(plan, sandbox)
    plan.initialized = _initialize(plan, sandbox)
    if plan.terminal is not None or not plan.initialized:
        return
    undone = False
    for regular in plan.desired.pod.spec.containers:
        undone |= _regular(plan, sandbox, regular)
    if not undone:
        plan.terminal = _outcome(plan.desired, plan.observed)


def _regular(plan: Plan, sandbox: SandboxRecord, container: Container) -> bool:
    """Decide about one regular container; return whether it runs or shall run."""
    record = plan.observed.latest(container.name)
    if record is None:
        plan.start(container, None)
        return True
    if record.sandbox_id == sandbox.id and record.running:
        _check_running(plan, container, record)
        return True
    if record.running or plan.lost(record):
        return True
    created = record.phase is ContainerPhase.CREATED
    spec = plan.desired.pod.spec
    if not created and not should_restart(spec, container, plan.observed, record):
        return False
    plan.start(container, record)
    return True


def _outcome(desired: Desired, observed: Observed) -> Terminal:
    """Return how a pod ended of which no container shall run again."""
    for container in desired.pod.spec.containers:
        record = observed.latest(container.name)
        if record is None or not succeeded(observed, record):
            return FAILED
    return SUCCEEDED


def _initialize(plan: Plan, sandbox: SandboxRecord) -> bool:
    """Decide about init containers and sidecars; return whether regular ones may start.

    A record of a later container proves that the earlier ones are done, even if theirs were
    removed from the runtime; sidecars (KEP-753) are kept running all the time.
    """
    spec = plan.desired.pod.spec
    observed = plan.observed
    reached = -1
    for index, container in enumerate(spec.init_containers):
        if observed.latest(container.name, sandbox.id) is not None:
            reached = index
    if any(observed.latest(one.name, sandbox.id) is not None for one in spec.containers):
        reached = len(spec.init_containers)
    for index, container in enumerate(spec.init_containers):
        if is_sidecar(container):
            done = _sidecar(plan, sandbox, container)
        elif index < reached:
            done = True
        else:
            done = _init(plan, sandbox, container)
        if plan.terminal is not None or not (done or index < reached):
            return False
    return True


def _init(plan: Plan, sandbox: SandboxRecord, container: Container) -> bool:
    """Decide about one init container; return whether it has succeeded."""
    record = plan.observed.latest(container.name, sandbox.id)
    if record is None:
        plan.start(container, plan.observed.latest(container.name))
        return False
    if record.running:
        return False
    if plan.lost(record):
        return False
    if record.phase is not ContainerPhase.CREATED:
        if succeeded(plan.observed, record):
            return True
        if not should_restart(plan.desired.pod.spec, container, plan.observed, record):
            plan.terminal = FAILED
            return False
    plan.start(container, record)
    return False


def _sidecar(plan: Plan, sandbox: SandboxRecord, container: Container) -> bool:
    """Keep a sidecar running; return whether it has started, so that the next may."""
    record = plan.observed.latest(container.name, sandbox.id)
    if record is None:
        plan.start(container, plan.observed.latest(container.name))
        return False
    if record.running:
        _check_running(plan, container, record)
        results = plan.observed.probe(record.id)
        return container.startup_probe is None or results.startup is Outcome.SUCCESS
    if not plan.lost(record):
        plan.start(container, record)
    return False


def _check_running(plan: Plan, container: Container, record: ContainerRecord) -> None:
    """End a running container whose specification changed or whose probe failed."""
    results = plan.observed.probe(record.id)
    # The Go kubelet's words: of a sidecar's restart nothing is said; a changed container starts
    # again under any policy; and as the container still runs, no rule of it is asked.
    sidecar = any(one.name == container.name for one in plan.desired.pod.spec.init_containers)
    what = f"{'Init container' if sidecar else 'Container'} {container.name}"
    again = "" if sidecar else ", will be restarted"
    policy = "" if policy_of(plan.desired.pod.spec, container) == NEVER else again
    wanted = plan.desired.hashes.get(container.name, record.spec_hash)
    if record.spec_hash and record.spec_hash != wanted:
        plan.kill(record, KillReason.CHANGED, f"{what} definition changed{again}")
    elif results.liveness is Outcome.FAILURE:
        message = f"{what} failed liveness probe{policy}"
        plan.kill(record, KillReason.LIVENESS, message, _grace(container.liveness_probe))
    elif results.startup is Outcome.FAILURE:
        message = f"{what} failed startup probe{policy}"
        plan.kill(record, KillReason.STARTUP, message, _grace(container.startup_probe))


def _grace(probe: Probe | None) -> int | None:
    return None if probe is None else probe.termination_grace_period_seconds
