"""Random histories of containers: whatever happens, no decision may be wrong.

The machine below plays the runtime. It knows the truth about every run of every container, the
decisions are made only from what a kubelet observes, and after each of them it is checked that no
pod is called Succeeded or Failed wrongly and that nothing is started that must not be.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kubeletpy.api.container import ContainerRestartRule, ContainerRestartRuleOnExitCodes
from kubeletpy.api.status import PodStatus
from kubeletpy.pods.actions import decide
from kubeletpy.pods.plan import Actions, Desired, ResetContainer, StartContainer
from kubeletpy.pods.restore import attempts_of
from kubeletpy.pods.state import (
    ContainerPhase,
    ContainerRecord,
    ImagePhase,
    ImageState,
    KillReason,
    Observed,
    Outcome,
    ProbeResults,
    SandboxRecord,
    Terminal,
    newest_first,
)
from kubeletpy.status.generate import Node, phase_of, pod_status
from tests.support.circumstances import examples

from .build import NOW, PROBE, container, desired

REGULAR, INIT, SIDECARS = ("a", "b"), ("i", "j"), ("s",)
AGAIN, ALL_AGAIN = 42, 43
CODES = st.sampled_from([0, 0, 1, 137, AGAIN, ALL_AGAIN])
POLICIES = st.sampled_from([None, None, "Always", "OnFailure", "Never"])


def rules(policy: str | None) -> list[ContainerRestartRule]:
    """A container with a policy of its own also has rules, one for each action."""
    if policy is None:
        return []
    return [
        ContainerRestartRule(
            action=action,
            exit_codes=ContainerRestartRuleOnExitCodes(operator="In", values=[code]),
        )
        for action, code in (("Restart", AGAIN), ("RestartAllContainers", ALL_AGAIN))
    ]


@dataclass
class Run:
    """One run of a container, as it truly was; ``undone`` once all containers started anew."""

    name: str
    sandbox: str
    natural: int | None = None
    killed: bool = False
    code: int | None = None
    undone: bool = False


@dataclass
class Truth:
    """All runs, by container id; kept also when the runtime has forgotten them."""

    runs: dict[str, Run] = field(default_factory=dict)

    def of(self, name: str) -> list[Run]:
        return [run for run in self.runs.values() if run.name == name and not run.undone]


class Histories(RuleBasedStateMachine):
    desired: Desired

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.boxes: dict[str, SandboxRecord] = {}
        self.records: dict[str, ContainerRecord] = {}
        self.probes: dict[str, ProbeResults] = {}
        self.killed: dict[str, KillReason] = {}
        self.concluded: Terminal | None = None
        self.truth = Truth()
        self.serial = 0
        self.status = PodStatus()
        self.attempts: dict[str, int] = {}

    @initialize(
        policy=st.sampled_from(["Always", "OnFailure", "Never"]),
        regular=st.integers(1, 2),
        init=st.integers(0, 2),
        sidecars=st.integers(0, 1),
        probed=st.booleans(),
        own=st.tuples(POLICIES, POLICIES),
        init_own=st.sampled_from([None, "OnFailure", "Never"]),
    )
    def setup(
        self,
        policy: str,
        regular: int,
        init: int,
        sidecars: int,
        probed: bool,
        own: tuple[str | None, str | None],
        init_own: str | None,
    ) -> None:
        startup = PROBE if probed else None
        first = [
            container(name, restart_policy=init_own, restart_policy_rules=rules(init_own))
            for name in INIT[:init]
        ]
        beside = [
            container(name, restart_policy="Always", startup_probe=startup)
            for name in SIDECARS[:sidecars]
        ]
        self.desired = desired(
            *(
                container(
                    name, liveness_probe=PROBE, restart_policy=policy,
                    restart_policy_rules=rules(policy),
                )
                for name, policy in zip(REGULAR[:regular], own, strict=False)
            ),
            init=(*first[:1], *beside, *first[1:]),
            restart_policy=policy,
        )  # fmt: skip

    # What is observed, and what a decision does.

    def observed(self) -> Observed:
        boxes, records = newest_first(list(self.boxes.values()), list(self.records.values()))
        names = (*REGULAR, *INIT, *SIDECARS)
        return Observed(
            sandboxes=boxes,
            containers=records,
            probes=self.probes,
            images={name: ImageState(ImagePhase.PRESENT) for name in names},
            killed=self.killed,
            concluded=self.concluded,
            attempts=dict(self.attempts),
        )

    @rule(steps=st.integers(1, 3))
    def work(self, steps: int) -> None:
        """The kubelet looks, decides, and does all or only the first of what it decided."""
        for _ in range(steps):
            self.check_and_apply(decide(self.desired, self.observed(), self.now), everything=True)

    @rule()
    def work_interrupted(self) -> None:
        self.check_and_apply(decide(self.desired, self.observed(), self.now), everything=False)

    def check_and_apply(self, actions: Actions, *, everything: bool) -> None:
        self.check(actions)
        if actions.terminal is not None:
            self.concluded = actions.terminal
        if actions.kill_pod:
            self.kill_pod()
        elif actions.create_sandbox is not None:
            assert not any(box.ready for box in self.boxes.values())
            assert all(not record.running for record in self.records.values())
            self.serial += 1
            key = f"s{self.serial}"
            assert actions.create_sandbox not in [box.attempt for box in self.boxes.values()]
            self.boxes[key] = SandboxRecord(
                id=key, attempt=actions.create_sandbox, ready=True, ips=("10.0.0.1",)
            )
        for kill in actions.kill:
            record = self.records[kill.id]
            assert record.running or record.phase is ContainerPhase.UNKNOWN
            self.killed[kill.id] = kill.reason
            self.end(record, self.code_after_sigterm(), killed=True)
        for reset in actions.reset if everything else actions.reset[:1]:
            self.reset(reset)
        for start in actions.start if everything else actions.start[:1]:
            self.start(start)
        for key in actions.remove_containers if everything else ():
            assert not self.records[key].running
            del self.records[key]
        for key in actions.remove_sandboxes if everything else ():
            assert all(record.sandbox_id != key for record in self.records.values())
            del self.boxes[key]

    def kill_pod(self) -> None:
        for record in list(self.records.values()):
            if record.phase in (ContainerPhase.RUNNING, ContainerPhase.UNKNOWN):
                self.killed[record.id] = KillReason.POD
                self.end(record, self.code_after_sigterm(), killed=True)
        for key, box in self.boxes.items():
            self.boxes[key] = replace(box, ready=False, ips=())

    def reset(self, reset: ResetContainer) -> None:
        assert reset.kill is (not self.records[reset.id].exited)
        del self.records[reset.id]
        for run in self.truth.runs.values():
            run.undone = True

    def code_after_sigterm(self) -> int:
        """Some programs end with 0 when they are told to end."""
        return 143 if self.serial % 2 else 0

    def start(self, start: StartContainer) -> None:
        if start.replaces:
            assert self.records[start.replaces].phase is ContainerPhase.CREATED
            del self.records[start.replaces]
        taken = [(one.name, one.attempt) for one in self.records.values()]
        assert (start.name, start.attempt) not in taken
        assert start.attempt > self.attempts.get(start.name, -1)
        self.attempts[start.name] = start.attempt
        self.serial += 1
        key = f"{start.name}-{start.attempt}-{self.serial}"
        newest = max(self.boxes.values(), key=lambda box: box.attempt)
        self.records[key] = ContainerRecord(
            id=key, sandbox_id=newest.id, name=start.name, attempt=start.attempt,
            phase=ContainerPhase.RUNNING, created_at=self.now, started_at=self.now,
            backoff=start.backoff, spec_hash="h1",
        )  # fmt: skip
        self.truth.runs[key] = Run(start.name, newest.id)

    def end(self, record: ContainerRecord, code: int, *, killed: bool) -> None:
        run = self.truth.runs.get(record.id)
        if run is not None and run.natural is None and not run.killed:
            run.natural, run.killed = (None, True) if killed else (code, False)
            run.code = code
        self.records[record.id] = replace(
            record, phase=ContainerPhase.EXITED, exit_code=code, finished_at=self.now
        )

    # What happens in the world.

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 400.0, 900.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), code=CODES)
    def container_ends(self, data: st.DataObject, code: int) -> None:
        record = data.draw(st.sampled_from(self.alive()))
        self.end(record, code, killed=False)

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def container_is_lost(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.alive()))
        self.truth.runs[record.id].killed = True
        self.records[record.id] = replace(record, phase=ContainerPhase.UNKNOWN)

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), outcome=st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE]))
    def probes_speak(self, data: st.DataObject, outcome: Outcome) -> None:
        record = data.draw(st.sampled_from(self.alive()))
        self.probes[record.id] = ProbeResults(startup=outcome, liveness=outcome)

    @precondition(lambda self: any(box.ready for box in self.boxes.values()))
    @rule(data=st.data(), also_containers=st.booleans())
    def sandbox_dies(self, data: st.DataObject, also_containers: bool) -> None:
        box = data.draw(st.sampled_from([one for one in self.boxes.values() if one.ready]))
        self.boxes[box.id] = replace(box, ready=False, ips=())
        for record in self.alive() if also_containers else ():
            if record.sandbox_id == box.id:
                self.end(record, 137, killed=True)

    @rule()
    def kubelet_restarts(self) -> None:
        """What it kept in memory is gone; the end that a status told is not.

        That it had itself ended a container which then exited with 0 is forgotten too: from then
        on that counts as a success, as it always does for the Go kubelet.
        """
        for key, record in self.records.items():
            if record.exited and record.exit_code == 0:
                self.truth.runs[key].natural = 0
        self.killed = {}
        self.probes = {}
        self.attempts = attempts_of(self.status)

    def alive(self) -> list[ContainerRecord]:
        return [record for record in self.records.values() if record.running]

    # What must hold.

    def check(self, actions: Actions) -> None:
        regular = [one.name for one in self.desired.pod.spec.containers]
        if self.concluded is not None:
            assert actions.terminal == self.concluded
            assert actions.start == ()
            assert actions.create_sandbox is None
        if actions.reset:
            assert not actions.start
            assert any(run.code == ALL_AGAIN for run in self.truth.runs.values())
        if actions.terminal is not None and self.concluded is None:
            self.check_end(actions.terminal, regular)
        for start in actions.start:
            self.check_start(start, regular)

    def check_end(self, end: Terminal, regular: list[str]) -> None:
        last = {name: (self.truth.of(name) or [Run(name, "")])[-1] for name in regular}
        failed = [
            run
            for name in INIT
            for run in self.truth.of(name)
            if (run.natural or run.killed) and not self.again(run)
        ]
        if end.phase == "Succeeded":
            assert all(run.natural == 0 for run in last.values())
        else:
            assert failed or any(run.natural != 0 for run in last.values())
        if not failed:
            for run in last.values():
                assert run.code is None or not self.again(run)

    def policy(self, name: str) -> str:
        """The policy that holds for a container."""
        spec = self.desired.pod.spec
        for one in (*spec.init_containers, *spec.containers):
            if one.name == name and one.restart_policy:
                return one.restart_policy
        return self.desired.policy

    def again(self, run: Run) -> bool:
        """Whether the exit code of a run asks for another one."""
        spec = self.desired.pod.spec
        named = (one for one in (*spec.init_containers, *spec.containers) if one.name == run.name)
        ruled = any(one.restart_policy_rules for one in named)
        if ruled and run.code in (AGAIN, ALL_AGAIN):
            return True
        policy = self.policy(run.name)
        return policy == "Always" or (policy == "OnFailure" and run.code != 0)

    def check_start(self, start: StartContainer, regular: list[str]) -> None:
        name = start.name
        policy = self.policy(name)
        assert all(record.name != name for record in self.alive())
        assert not any(
            record.name == name and record.phase is ContainerPhase.UNKNOWN
            and record.id not in self.killed
            for record in self.records.values()
        )  # fmt: skip
        runs = self.truth.of(name)
        newest = max(self.boxes.values(), key=lambda box: box.attempt)
        if policy == "Never":
            # In a new sandbox init containers run anew, if anything of the pod may run again.
            here = [run for run in runs if name in regular or run.sandbox == newest.id]
            assert not here or self.again(here[-1])
        if name in regular:
            if policy == "OnFailure" and runs:
                assert self.again(runs[-1]) or self.was_marked(runs[-1])
            for one in self.desired.pod.spec.init_containers:
                here = [run for run in self.truth.of(one.name) if run.sandbox == newest.id]
                if one.restart_policy == "Always":
                    assert here
                else:
                    assert any(run.natural == 0 for run in here)
        history = [record for record in self.records.values() if record.name == name]
        if history:
            last = max(history, key=lambda one: one.attempt)
            if last.exited and last.finished_at - last.started_at <= 600:
                assert self.now >= last.finished_at + last.backoff

    def was_marked(self, run: Run) -> bool:
        """Whether the kubelet itself ended that run (it may have exited with 0 all the same)."""
        return any(self.truth.runs[key] is run for key in self.killed)

    @invariant()
    def status_agrees(self) -> None:
        if not hasattr(self, "desired"):
            return
        seen = self.observed()
        actions = decide(self.desired, seen, self.now)
        phase = phase_of(self.desired, seen, actions)
        if phase in ("Succeeded", "Failed"):
            assert actions.terminal is not None
            assert not self.alive()
        status = pod_status(
            self.desired, seen, actions, node=Node(("10.0.0.9",)), now=self.now,
            previous=self.status,
        )  # fmt: skip
        self.status = status
        for each in (*status.init_container_statuses, *status.container_statuses):
            kinds = (each.state.waiting, each.state.running, each.state.terminated)
            assert sum(kind is not None for kind in kinds) == 1
            assert bool(each.started) <= (each.state.running is not None)
        ready = {one.type: one.status for one in status.conditions}
        if ready["Ready"] == "True":
            assert len({record.name for record in self.alive()}) >= len(status.container_statuses)

    def teardown(self) -> None:
        """With nothing more happening it comes to rest: no decision is repeated for ever."""
        if not hasattr(self, "desired"):
            return
        for _ in range(40):
            actions = decide(self.desired, self.observed(), self.now)
            if actions.idle and actions.wake_at is None:
                break
            if actions.idle and actions.wake_at is not None:
                assert actions.wake_at > self.now
                self.now = actions.wake_at
            self.check_and_apply(actions, everything=True)
            for name in INIT:
                for record in self.alive():
                    if record.name == name:
                        self.end(record, 0, killed=False)
            for record in self.alive():
                self.probes[record.id] = ProbeResults(
                    startup=Outcome.SUCCESS, liveness=Outcome.SUCCESS
                )
        else:
            raise AssertionError(f"does not come to rest: {actions}")


Histories.TestCase.settings = settings(
    max_examples=examples(150), stateful_step_count=30, deadline=None
)
TestHistories = Histories.TestCase
