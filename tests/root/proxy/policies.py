"""The lab's hosts as pods with policies: who is there, what they are told, and who asks whom."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient, python_path
from tests.support.policies import Json, Traffic, World, namespace, pod, policy
from tests.support.proxylab.clients import PATIENCE, SILENCE, ask
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import NODES, OTHER_PORT, PORT
from tests.support.proxylab.proxies import REPOSITORY
from tests.support.proxylab.topology import FAMILIES, pod_address, wire_address

NODE = NODES["node"]
SETTLE_SECONDS = patient(10)
_ATONCE = 200
_WIRE = {4: "192.168.77.0/24", 6: "fd77::/64"}
_PODS = {4: "10.244.0.0/16", 6: "fd00:244::/32"}


def both(host: str, index: int = 0) -> list[str]:
    """Return the addresses of a pod."""
    return [pod_address(host, family, index) for family in FAMILIES]


def block(networks: dict[int, str], family: int, *without: str) -> Json:
    return {"ipBlock": {"cidr": networks[family], "except": list(without)}}


def _alone(host: str, family: int) -> str:
    return f"{wire_address(host, family)}/{32 if family == 4 else 128}"


FRONT: Json = {"matchLabels": {"role": "front"}}
TEAM_B: Json = {"matchLabels": {"team": "b"}}

INGRESS: dict[str, list[Json]] = {
    "open": [],
    "closed": [{"policyTypes": ["Ingress"]}],
    "all": [{"ingress": [{}]}],
    "pods": [{"ingress": [{"from": [{"podSelector": FRONT}]}]}],
    "spaces": [{"ingress": [{"from": [{"namespaceSelector": TEAM_B}]}]}],
    "both": [{"ingress": [{"from": [{"namespaceSelector": TEAM_B, "podSelector": FRONT}]}]}],
    "any-space": [{"ingress": [{"from": [{"namespaceSelector": {}, "podSelector": FRONT}]}]}],
    "wire": [
        {"ingress": [{"from": [block(_WIRE, f, _alone("outside", f)) for f in FAMILIES]}]}
    ],
    "pod-network": [{"ingress": [{"from": [block(_PODS, f) for f in FAMILIES]}]}],
    "port": [{"ingress": [{"ports": [{"port": PORT}]}]}],
    "ports": [{"ingress": [{"ports": [{"port": PORT}, {"port": OTHER_PORT}]}]}],
    "range": [{"ingress": [{"ports": [{"port": PORT - 80, "endPort": PORT + 80}]}]}],
    "named": [{"ingress": [{"ports": [{"port": "web"}]}]}],
    "datagrams": [{"ingress": [{"ports": [{"protocol": "UDP"}]}]}],
    "associations": [{"ingress": [{"ports": [{"protocol": "SCTP", "port": PORT}]}]}],
    "several": [
        {"ingress": [{"from": [{"podSelector": FRONT}], "ports": [{"port": PORT}]}]},
        {"ingress": [{"from": [{"namespaceSelector": TEAM_B}], "ports": [{"port": OTHER_PORT}]}]},
        {"policyTypes": ["Ingress"]},
    ],
    "not-front": [
        {"ingress": [{"from": [{"podSelector": {"matchExpressions": [
            {"key": "role", "operator": "NotIn", "values": ["front"]}]}}]}]}
    ],
}  # fmt: skip
"""Policies of pods of this node that others ask, by the pods' name."""

EGRESS: dict[str, list[Json]] = {
    "sealed": [{"policyTypes": ["Egress"]}],
    "to-pods": [{"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": FRONT}]}]}],
    "to-spaces": [{"policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": TEAM_B}]}]}],
    "to-block": [
        {"policyTypes": ["Egress"], "egress": [{"to": [
            {"ipBlock": {"cidr": _PODS[f], "except": [
                f"{pod_address('remote', f, 1)}/{32 if f == 4 else 128}"]}} for f in FAMILIES]}]}
    ],
    "to-named": [{"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]}],
    "by-default": [{"egress": [{"ports": [{"port": PORT, "protocol": "UDP"}]}]}],
}  # fmt: skip
"""The same for pods of this node that ask others."""

SERVERS = {name: index for index, name in enumerate((*INGRESS, *EGRESS))}
"""Which of the addresses of the lab's host ``local`` a pod has."""
CLIENTS = {
    "x/front": ("pod", 0), "x/back": ("pod", 1), "y/front": ("pod", 2), "z/front": ("far", 0),
}  # fmt: skip
REMOTES = {"x/server": 0, "z/server": 1, "y/server": 2}


def world() -> World:
    """Return all objects."""
    made = World(node=NODE)
    made.namespaces = [namespace("x"), namespace("y", team="b"), namespace("z", team="b")]
    for name, (host, index) in CLIENTS.items():
        where = NODE if host == "pod" else NODES["neighbour"]
        labels = {"role": name.partition("/")[2]}
        made.pods.append(pod(name, both(host, index), node=where, labels=labels))
    for name, index in REMOTES.items():
        ports = [("web", "TCP", OTHER_PORT if index else PORT)]
        labels = {"role": "back" if index else "front"}
        made.pods.append(
            pod(name, both("remote", index), node=NODES["neighbour"], labels=labels, ports=ports)
        )
    for name, index in SERVERS.items():
        addresses, labels = both("local", index), {"case": name}
        made.pods.append(
            pod(f"x/{name}", addresses, node=NODE, labels=labels, ports=[("web", "TCP", PORT)])
        )
        for number, spec in enumerate((INGRESS | EGRESS)[name]):
            made.policies.append(
                policy(f"x/{name}-{number}", {"matchLabels": {"case": name}}, **spec)
            )
    return made


@dataclass(frozen=True)
class Question:
    """Somebody asks; ``asker`` is a host of the lab."""

    asker: str
    traffic: Traffic

    def __str__(self) -> str:
        one = self.traffic
        return f"{self.asker} {one.source} -> {one.destination} {one.protocol}:{one.port}"


_WAYS = (("TCP", PORT), ("TCP", OTHER_PORT), ("UDP", PORT), ("UDP", OTHER_PORT), ("SCTP", PORT))


def questions() -> Iterator[Question]:
    """Yield all questions: who may be asked, by whom, and how, in both families."""
    for family in FAMILIES:
        askers = [(host, pod_address(host, family, index)) for host, index in CLIENTS.values()]
        askers += [(host, wire_address(host, family)) for host in ("outside", "neighbour")]
        askers.append(("node", pod_address("pod", family).rpartition("." if family == 4 else ":")[0]
                       + ("." if family == 4 else ":") + "1"))  # fmt: skip
        for host, source in askers:
            for index in SERVERS.values():
                target = pod_address("local", family, index)
                for protocol, port in _WAYS:
                    yield Question(host, Traffic(source, target, protocol, port))
        for name in (*EGRESS, "open"):
            source = pod_address("local", family, SERVERS[name])
            for index in REMOTES.values():
                target = pod_address("remote", family, index)
                for protocol, port in _WAYS:
                    yield Question("local", Traffic(source, target, protocol, port))


async def wrong(lab: Lab, asked: Iterable[Question], declared: World) -> list[str]:
    """Ask all; return what did not come out as the reference says."""
    turn = asyncio.Semaphore(_ATONCE)

    async def one(question: Question) -> str:
        traffic = question.traffic
        # What a node sends to its own pods is never refused.
        expected = question.asker == "node" or declared.allows(traffic)
        async with turn:
            answer = await ask(
                lab.hosts[question.asker], traffic.destination, traffic.port, traffic.protocol,
                source=traffic.source, patience=PATIENCE if expected else SILENCE,
            )  # fmt: skip
        right = bool(answer.source) if expected else answer.who == "silence"
        return "" if right else f"{question}: {'' if expected else 'not '}allowed, but {answer}"

    return [each for each in await asyncio.gather(*map(one, asked)) if each]


class Enforced:
    """The lab with somebody who enforces policies on its node."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._generation = 0

    def declare(self, declared: World) -> None:
        """Have these objects, and no others, and wait for the rules."""
        self.lab.reset()
        self.put(*declared.namespaces, *declared.pods, *declared.policies)

    def put(self, *objects: Json) -> float:
        """Put objects and wait for the rules."""
        self.lab.api.put(*objects)
        return self.settle()

    def settle(self) -> float:
        """Wait until all that the API server holds is in the kernel; return the seconds it took.

        A last policy allows a last pod by a label that its namespace has since now alone; when the
        pod's address is in a set, all that was put before has been seen.
        """
        self._generation += 1
        number = self._generation
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        label = {"generation": str(number)}
        begun = time.monotonic()
        peer = {"namespaceSelector": {"matchLabels": label}, "podSelector": {"matchLabels": label}}
        self.lab.api.put(
            namespace("zz", **label),
            pod(f"zz/last-{number}", [address, f"fd01::{number:x}"], node=NODE, labels=label),
            policy("zz/last", {}, ingress=[{"from": [peer]}]),
        )
        while True:
            rules = self.table()
            if address in _peers(rules, "ip", number) and f"fd01::{number:x}" in _peers(
                rules, "ip6", number
            ):
                return time.monotonic() - begun
            late = time.monotonic() - begun > SETTLE_SECONDS
            assert not late, f"the rules of policies do not come:\n{rules}"
            time.sleep(0.005)

    def table(self) -> str:
        """Return the rules of policies."""
        text = self.lab.hosts["node"].run("nft -n list ruleset")
        return "\n".join(
            "table " + each for each in text.split("table ") if "kubeletpy-policies" in each[:40]
        )


def _peers(rules: str, family: str, number: int) -> str:
    """Return the elements of the set of peers of a generation."""
    for table in rules.split("table "):
        if table.startswith(f"{family} "):
            for each in table.split("set "):
                if f'generation={number}"' in each:
                    return each.partition("elements")[2].partition("}")[0]
    return ""


@dataclass
class Daemon:
    """``kubeletpy policy`` on the node."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(patient(10))


def command(lab: Lab, *arguments: str) -> tuple[list[str], dict[str, Any]]:
    words = [sys.executable, "-P", "-m", "proxy.policy", *arguments]
    return words, {"cwd": REPOSITORY, "env": {**os.environ, "PYTHONPATH": python_path(REPOSITORY)},
                   "stdin": subprocess.DEVNULL}  # fmt: skip


@contextmanager
def daemon(lab: Lab) -> Iterator[Daemon]:
    """Run ``kubeletpy policy`` on the node within the block; its rules stay."""
    config = lab.directory / "policy.kubeconfig"
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": lab.api.address}}],
        "users": [{"name": "lab", "user": {"token": "none"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
    }))  # fmt: skip
    words, settings = command(lab, "--kubeconfig", str(config), "--hostname-override", NODE)
    log = lab.directory / f"policy-{time.monotonic_ns()}.log"
    with in_namespace(lab.hosts["node"].path), log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, **settings)
    started = Daemon(process, log)
    try:
        yield started
    finally:
        started.stop()
