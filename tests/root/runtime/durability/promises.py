"""Promises against reality: what clients were told, what the daemon lists, what there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.durability.reality import Reality
from tests.root.runtime.durability.turmoil import (
    BURST_CODE,
    BURST_LINES,
    TERM_CODE,
    Client,
    ContainerFact,
    PodFact,
)

CREATED: Final = cri.CONTAINER_CREATED
RUNNING: Final = cri.CONTAINER_RUNNING
EXITED: Final = cri.CONTAINER_EXITED
_NOT_STARTED: Final = 128
_BY_ITSELF: Final = {"burst": {BURST_CODE}, "sums": {0}, "sleeper": set(), "witness": set()}
# SIGTERM may come before the trap for it, and kills who is not the first of its PID namespace.
_STOPPED: Final = {TERM_CODE, 137, 143}


@dataclass(frozen=True)
class Lists:
    """What the daemon says there is."""

    pods: dict[str, cri.PodSandbox]
    statuses: dict[str, cri.ContainerStatus]


def disagreements(lists: Lists, reality: Reality) -> list[str]:
    """Return where the lists and the machine differ."""
    pods, containers = set(lists.pods), set(lists.statuses)
    ready = {i for i, pod in lists.pods.items() if pod.state == cri.SANDBOX_READY}
    bad = [
        *_differ("pods with a shim", ready, set(reality.shims), may_have=pods),
        *_differ("pods with an address", ready, reality.addresses, may_have=pods),
        *_differ("pods with mounts", ready, reality.pinned, may_have=pods),
        *_differ("directories of pods", pods, reality.directories["sandboxes"]),
        *_differ("directories of containers", containers, reality.directories["containers"]),
        *_differ("volumes", set(), reality.directories["volumes"], may_have=containers),
        *_differ("writable layers", containers, reality.writable),
    ]
    running = {i for i, status in lists.statuses.items() if status.state == RUNNING}
    bad += _differ("containers with processes", running, set(reality.processes))
    wanted = ready | running
    bad += _differ("cgroups", wanted, reality.cgroups, may_have=pods | containers)
    links = len(reality.links) - 2
    if not len(ready) <= links <= len(pods):
        bad.append(f"{links} links for {len(ready)} ready pods: {sorted(reality.links)}")
    for identifier, status in lists.statuses.items():
        if status.state != RUNNING and identifier in reality.cgroups:
            bad.append(f"container {identifier[:12]} does not run, but has a cgroup")
    return bad


def _differ(
    what: str, expected: set[str], found: set[str], may_have: Iterable[str] = ()
) -> list[str]:
    missing, surplus = expected - found, found - expected - set(may_have)
    return [
        *(f"{what}: {identifier[:12]} is missing" for identifier in missing),
        *(f"{what}: {identifier[:12]} is too many" for identifier in surplus),
    ]


def broken(clients: Iterable[Client], lists: Lists) -> list[str]:
    """Compare what clients were told with the lists, and settle what was unanswered.

    Afterwards no fact is ``doing`` anything. Returns the promises that were broken.
    """
    bad: list[str] = []
    names = {pod.metadata.name: pod for pod in lists.pods.values()}
    known: set[str] = set()
    for client in clients:
        for pod in list(client.pods):
            listed = names.get(pod.name)
            if listed is None:
                if pod.doing not in ("run", "remove"):
                    bad.append(f"pod {pod.name} ({pod.done}) is not listed")
                client.pods.remove(pod)
                continue
            known.add(pod.name)
            bad += _settle_pod(pod, listed, lists)
    return bad + [f"pod {name} was removed, but is listed" for name in names.keys() - known]


def _settle_pod(pod: PodFact, listed: cri.PodSandbox, lists: Lists) -> list[str]:
    bad = []
    pod.id = listed.id
    ready = listed.state == cri.SANDBOX_READY
    if ready and pod.done == "stop":
        bad.append(f"pod {pod.name} was stopped, but is ready")
    if not ready and (pod.done, pod.doing) in (("run", ""), ("", "run")):
        bad.append(f"pod {pod.name} is down, and nobody stopped it")
    ending = pod.doing in ("stop", "remove") or not ready
    if pod.doing == "run":
        pod.done = "run"
    if not ready:
        pod.done = "stop"
    pod.doing = ""
    mine = {s.metadata.name: s for s in lists.statuses.values()
            if s.log_path.startswith(pod.config.log_directory + "/")}  # fmt: skip
    for container in list(pod.containers):
        status = mine.pop(container.name, None)
        if status is None:
            if container.doing not in ("create", "remove") and not ending:
                bad.append(f"container {container.name} of {pod.name} is not listed")
            pod.containers.remove(container)
            continue
        bad += [f"container {container.name} of pod {pod.name}: {text}"
                for text in _settle_container(container, status, ending)]  # fmt: skip
    return bad + [f"container {name} of {pod.name} was removed, but is listed" for name in mine]


def _settle_container(
    container: ContainerFact, status: cri.ContainerStatus, pod_ends: bool
) -> list[str]:
    container.id = status.id
    doing, done, state = container.doing, container.done, status.state
    container.doing = ""
    container.ending |= pod_ends or doing in ("stop", "remove")
    container.done = {CREATED: "create", RUNNING: "start"}.get(state, "stop")
    bad = []
    if state == CREATED and (done not in ("", "create") or doing == "stop"):
        bad.append("it was started, but is listed as created")
    if state != CREATED and done == "create" and doing not in ("start", "stop", "remove"):
        bad.append("it was never started, but is not listed as created")
    if state == RUNNING and done == "stop":
        bad.append("it was stopped, but runs")
    if state != EXITED:
        return bad
    stopped = container.ending or done == "stop"
    codes: set[int] = _BY_ITSELF[container.kind] | (_STOPPED if stopped else set())
    if doing == "start":
        codes.add(_NOT_STARTED)
    if done == "create" and stopped:
        return bad
    if container.code >= 0:
        codes = {container.code}
    container.code = status.exit_code
    if status.exit_code not in codes:
        bad.append(
            f"its exit code is {status.exit_code} ({status.reason}: {status.message}), expected "
            f"{codes}: it was {done or 'nothing'}, then {doing or 'left alone'}"
        )
    return bad + _lost_lines(container, status)


def _lost_lines(container: ContainerFact, status: cri.ContainerStatus) -> list[str]:
    if container.kind == "burst" and status.exit_code == BURST_CODE:
        found = lines(container)
        if found != [str(n) for n in range(BURST_LINES)]:
            return [f"its log is {found}"]
    return []


def lines(container: ContainerFact) -> list[str]:
    """Return what a container wrote, by its log."""
    return [line.split(" ", 3)[3] for line in container.log.read_text().splitlines()]
