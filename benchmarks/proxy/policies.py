"""NetworkPolicies at scale: what it costs to have them, to change one thing, and to pass them.

    sudo .venv/bin/python -m benchmarks.proxy.policies [--pods 5000] [--local 100] [--policies 1000]

Rules go to the kernel of a network namespace of our own; packets through the lab of the proxy's
tests. A tenth of the policies is about pods of this node, in as many namespaces as there are tens
of policies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kubeletpy_common.linux.namespaces import in_namespace
from proxy.model.portal import Family
from proxy.nftables.fields import pack_address
from proxy.nftables.ruleset import elements_of
from proxy.nftables.socket import RuleSocket
from proxy.nftables.wire import Kind as Wire
from proxy.nftables.wire import string
from proxy.policy.backend import PolicyTable
from proxy.policy.enforcer import Inputs
from proxy.policy.inputs import Kind, decoded
from proxy.policy.layout import SELECTED, TABLES
from proxy.policy.model import Model
from proxy.policy.policies import Direction
from tests.root.proxy.policies import NODE as LAB_NODE
from tests.root.proxy.policies import Enforced, daemon, world
from tests.support.namespaces import in_new_network
from tests.support.policies import Json, namespace, pod, policy
from tests.support.proxylab.clients import ask
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import PORT
from tests.support.proxylab.topology import pod_address

RESULTS: Final = Path(__file__).parents[1] / "results"
NODE: Final = "here"
FAMILIES: Final = (Family.V4, Family.V6)
_KINDS: Final = {"Pod": Kind.POD, "Namespace": Kind.NAMESPACE, "NetworkPolicy": Kind.POLICY}
_TIMES: Final = 100
_CONNECTIONS: Final = 3000
_AT_ONCE: Final = 20


def cluster(pods: int, local: int, policies: int) -> list[Json]:
    """Return the objects of a cluster; pods and policies are spread over its namespaces."""
    spaces = max(policies // 10, 1)
    made: list[Json] = [namespace(f"n{each}", team=f"t{each % 10}") for each in range(spaces)]
    made += [a_pod(each, each % spaces, each < local) for each in range(pods)]
    made += [a_policy(each, each % spaces, each // spaces) for each in range(policies)]
    return made


def a_pod(number: int, space: int, local: bool, **labels: str) -> Json:
    """Return a pod; one of ten has each role."""
    high, low = divmod(number, 250)
    addresses = [f"10.{1 + high // 250}.{high % 250}.{low + 1}", f"fd00::{number + 1:x}"]
    return pod(
        f"n{space}/p{number}", addresses, node=NODE if local else "there",
        labels={"role": f"r{number % 10}", **labels}, ports=[("web", "TCP", 8080)],
    )  # fmt: skip


def a_policy(number: int, space: int, kind: int, port: int = 80) -> Json:
    """Return a policy as people write them: peers by label, a port or a few, a block."""
    team = {"namespaceSelector": {"matchLabels": {"team": f"t{number % 10}"}}}
    role = {"podSelector": {"matchLabels": {"role": f"r{kind % 10}"}}}
    rule = {"from": [role, team | role], "ports": [{"port": port}, {"port": "web"}]}
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": [f"10.0.{number % 250}.0/24"]}}
    selector = {"matchLabels": {"role": f"r{kind % 3}"}} if kind else {}
    return policy(
        f"n{space}/policy{number}", selector, policyTypes=["Ingress", "Egress"],
        ingress=[rule], egress=[{"to": [role, block]}],
    )  # fmt: skip


def put(inputs: Inputs, thing: Json) -> None:
    """Have an object arrive, from its JSON on."""
    kind = _KINDS[thing["kind"]]
    inputs.put(kind, decoded(kind, json.dumps(thing).encode())[0])


def programming(pods: int, local: int, policies: int) -> dict[str, float]:
    """Return what it costs to write rules."""
    things = [(_KINDS[each["kind"]], json.dumps(each).encode())
              for each in cluster(pods, local, policies)]  # fmt: skip
    figures: dict[str, float] = {}
    begun = time.monotonic()
    model = Model(FAMILIES)
    inputs = Inputs(model, NODE, lambda: None, lambda policy: None)
    for kind, text in things:
        inputs.put(kind, decoded(kind, text)[0])
    model.begin()
    figures["read and decided, s"] = time.monotonic() - begun
    begun = time.monotonic()
    tables = [PolicyTable(each) for each in FAMILIES]
    size = 0
    for each in tables:
        size += each.replace(model.contents(each.family))
    figures["first tables in force, s"] = time.monotonic() - begun
    figures["bytes of transactions"] = size

    def changed(name: str, change: Callable[[int], None]) -> None:
        seconds = []
        for number in range(_TIMES):
            begun = time.monotonic()
            change(number)
            for each in tables:
                assert each.alter(model.take(each.family))
            seconds.append(time.monotonic() - begun)
        figures[f"{name}, ms"] = statistics.median(seconds) * 1000

    spaces = max(policies // 10, 1)
    changed("a pod comes, here", lambda n: put(inputs, a_pod(pods + n, 0, True)))
    changed("a pod comes, elsewhere", lambda n: put(inputs, a_pod(pods + 500 + n, 0, False)))
    changed("a pod's label changes", lambda n: put(inputs, a_pod(n, n % spaces, n < local, v="2")))
    changed("a pod goes", lambda n: inputs.drop(Kind.POD, ("n0", f"p{pods + n}")))
    changed("a policy changes", lambda n: put(inputs, a_policy(n, n % spaces, n // spaces, 81)))
    begun = time.monotonic()
    for each in tables:
        each.replace(model.contents(each.family))
    figures["all anew, s"] = time.monotonic() - begun
    for each in tables:
        each.close()
    return figures


def packets() -> dict[str, float]:
    """Return new connections a second between two pods: without policies, and with some."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory, Lab.built(Path(directory)) as lab:
        source, target = pod_address("pod", 4), pod_address("local", 4)

        def rate() -> float:
            async def run() -> float:
                seconds = []
                for _ in range(_CONNECTIONS // _AT_ONCE):
                    begun = time.monotonic()
                    answers = (ask(lab.hosts["pod"], target, PORT) for _ in range(_AT_ONCE))
                    assert all(each.source for each in await asyncio.gather(*answers))
                    seconds.append(time.monotonic() - begun)
                # Others use the machine, too.
                return _AT_ONCE / statistics.quantiles(seconds, n=10)[0]

            return asyncio.run(run())

        figures["connections a second, no table"] = rate()
        for count in (0, 1, 10, 100):
            model = Model(FAMILIES)
            inputs = Inputs(model, NODE, lambda: None, lambda policy: None)
            put(inputs, namespace("x"))
            put(inputs, pod("x/asker", [source], node=NODE, labels={"role": "front"}))
            put(inputs, pod("x/asked", [target], node=NODE, labels={"is": "asked"}))
            for each in range(count):
                last = each == count - 1
                peer = {"matchLabels": {"role": "front" if last else f"other{each}"}}
                put(inputs, policy(f"x/p{each}", {}, ingress=[{"from": [{"podSelector": peer}]}],
                                   egress=[{"to": [{"podSelector": {}}]}]))  # fmt: skip
            model.begin()
            with in_namespace(lab.hosts["node"].path):
                table = PolicyTable(Family.V4)
            table.replace(model.contents(Family.V4))
            figures[f"connections a second, {count} policies of both pods"] = rate()
            table.cleanup()
            table.close()
    return figures


def told() -> dict[str, float]:
    """Return the time from a pod being told by the API server to its rules being in the kernel."""
    seconds = []
    with tempfile.TemporaryDirectory() as directory, Lab.built(Path(directory)) as lab:
        enforced = Enforced(lab)
        with daemon(lab):
            enforced.declare(world())
            with in_namespace(lab.hosts["node"].path):
                rules = RuleSocket()
            table = (string(1, TABLES[0]), string(2, SELECTED[Direction.INGRESS].name))
            for number in range(1, _TIMES):
                address = f"198.19.0.{number}"
                begun = time.monotonic()
                lab.api.put(pod(f"x/new{number}", [address], node=LAB_NODE,
                                labels={"case": "closed"}))  # fmt: skip
                key, found = pack_address(address, Family.V4), False
                while not found:
                    assert time.monotonic() < begun + 10
                    listed = elements_of(rules.dump(Wire.GET_ELEMENTS, 2, *table))
                    found = any(each.key == key for each in listed)
                seconds.append(time.monotonic() - begun)
            rules.close()
    found = {"pod told, until it is isolated, ms": statistics.median(seconds) * 1000}
    return found | {"... the slowest of a hundred, ms": max(seconds) * 1000}


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--local", type=int, default=100)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="Into benchmarks/results.")
    given = parser.parse_args()
    sizes = (given.pods, given.local, given.policies)
    figures = in_new_network(lambda: programming(*sizes)) | packets() | told()
    for name, value in figures.items():
        print(f"{name:50} {value:12.3f}")
    if given.write:
        result: dict[str, Any] = {
            "kernel": platform.release(), "python": platform.python_version(),
            "pods, here, policies": sizes, "figures": {k: round(v, 3) for k, v in figures.items()},
        }  # fmt: skip
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "policies.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
