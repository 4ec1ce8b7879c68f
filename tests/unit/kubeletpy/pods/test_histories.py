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

from kubeletpy.api.status import PodStatus
from kubeletpy.pods.actions import decide
from kubeletpy.pods.plan import Actions, Desired, StartContainer
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

from .build import NOW, PROBE, container, desired

REGULAR, INIT, SIDECARS = ("a", "b"), ("i", "j"), ("s",)
CODES = st.sampled_from([0, 0, 1, 137])


@dataclass
class Run:
    """One run of a container, as it truly was."""

    name: str
    sandbox: str
    natural: int | None = None
    killed: bool = False


@dataclass
class Truth:
    """All runs, by container id; kept also when the runtime has forgotten them."""

    runs: dict[str, Run] = field(default_factory=dict)

    def of(self, name: str) -> list[Run]:
        return [run for run in self.runs.values() if run.name == name]


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

    @initialize(
        policy=st.sampled_from(["Always", "OnFailure", "Never"]),
        regular=st.integers(1, 2),
        init=st.integers(0, 2),
        sidecars=st.integers(0, 1),
        probed=st.booleans(),
    )
    def setup(self, policy: str, regular: int, init: int, sidecars: int, probed: bool) -> None:
        startup = PROBE if probed else None
        first = [container(name) for name in INIT[:init]]
        beside = [
            container(name, restart_policy="Always", startup_probe=startup)
            for name in SIDECARS[:sidecars]
        ]
        self.desired = desired(
            *(container(name, liveness_probe=PROBE) for name in REGULAR[:regular]),
            init=(*first[:1], *beside, *first[1:]),
            restart_policy=policy,
        )

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

    def code_after_sigterm(self) -> int:
        """Some programs end with 0 when they are told to end."""
        return 143 if self.serial % 2 else 0

    def start(self, start: StartContainer) -> None:
        if start.replaces:
            assert self.records[start.replaces].phase is ContainerPhase.CREATED
            del self.records[start.replaces]
        taken = [(one.name, one.attempt) for one in self.records.values()]
        assert (start.name, start.attempt) not in taken
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

    def alive(self) -> list[ContainerRecord]:
        return [record for record in self.records.values() if record.running]

    # What must hold.

    def check(self, actions: Actions) -> None:
        policy = self.desired.policy
        regular = [one.name for one in self.desired.pod.spec.containers]
        if self.concluded is not None:
            assert actions.terminal == self.concluded
            assert actions.start == ()
            assert actions.create_sandbox is None
        if actions.terminal is not None and self.concluded is None:
            assert policy != "Always"
            last = {name: (self.truth.of(name) or [Run(name, "")])[-1] for name in regular}
            if actions.terminal.phase == "Succeeded":
                assert all(run.natural == 0 for run in last.values())
            else:
                assert policy == "Never"
                failed_init = any(
                    run.natural or run.killed for name in INIT for run in self.truth.of(name)
                )
                assert failed_init or any(run.natural != 0 for run in last.values())
        for start in actions.start:
            self.check_start(start, policy, regular)

    def check_start(self, start: StartContainer, policy: str, regular: list[str]) -> None:
        name = start.name
        assert all(record.name != name for record in self.alive())
        assert not any(
            record.name == name and record.phase is ContainerPhase.UNKNOWN
            and record.id not in self.killed
            for record in self.records.values()
        )  # fmt: skip
        runs = self.truth.of(name)
        if policy == "Never" and name not in SIDECARS:
            assert not runs
        if name in regular:
            if policy == "OnFailure" and runs:
                assert runs[-1].natural != 0 or self.was_marked(runs[-1])
            newest = max(self.boxes.values(), key=lambda box: box.attempt)
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


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase
