"""The whole laboratory: topology, endpoints that answer, an API server, and proxies on the node."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.circumstances import patient

from . import proxies
from .answers import Place, answering
from .apiserver import ApiServer, Json
from .clients import PATIENCE, Answer, ask
from .flows import forget
from .objects import LOCAL, OTHER_PORT, PORT, Port, node, service, slices
from .proxies import Proxy, Settings
from .topology import FAMILIES, MANY, Topology, pod_address, service_address

SYNC_SECONDS = patient(20)
_SENTINEL = 240
"""Number of the cluster IP of the Service that tells how far a proxy has come."""


@dataclass
class Lab:
    """One laboratory; proxies come and go in it.

    Attributes:
        hosts: the topology.
        api: the API server, on the node.
        directory: for configurations and logs.
    """

    hosts: Topology
    api: ApiServer
    directory: Path
    _generation: int = 0
    _started: int = 0
    _rest: list[Proxy] = field(default_factory=list)

    @classmethod
    @contextmanager
    def built(cls, directory: Path) -> Iterator[Lab]:
        """Build it, and take it down at the end of the block."""
        with ExitStack() as stack:
            hosts = stack.enter_context(Topology.build())
            stack.enter_context(answering(_places(hosts)))
            api = stack.enter_context(ApiServer.running(hosts["node"]))
            lab = cls(hosts, api, directory)
            stack.callback(lab._stop_all)
            yield lab

    def reset(self, *objects: Json) -> None:
        """Have these objects in the API server, the Nodes, and nothing else."""
        self.api.clear()
        self.api.put(node("node"), node("neighbour"), *objects)

    @contextmanager
    def proxy(self, settings: Settings, *, clean: bool = True) -> Iterator[Proxy]:
        """Run a proxy on the node until the block's end, once its rules are in the kernel."""
        started = self.start(settings)
        try:
            self.settle()
            yield started
        finally:
            started.stop()
            if started in self._rest:
                self._rest.remove(started)
            if clean:
                self.wipe()

    def start(self, settings: Settings) -> Proxy:
        """Start a proxy; `settle` waits for its rules."""
        self._started += 1
        started = proxies.start(
            self.hosts["node"], settings, self.directory, self.api.address, self._started
        )
        self._rest.append(started)
        return started

    def forget(self, proxy: Proxy) -> None:
        """Leave it to another to stop this process."""
        self._rest.remove(proxy)

    def settle(self, seconds: float = SYNC_SECONDS) -> float:
        """Wait until all that the API server holds is in the kernel; return the seconds it took.

        A last Service and its slices come after everything else; it has a new port each time, and
        what answers on that is proof. The port has a name, so that the slices of before do not do:
        they are watched by a connection of their own, which may be late.
        """
        self._generation += 1
        port = 1000 + self._generation
        ports = [Port(port, name=f"of-{port}")]
        begun = time.monotonic()
        self.api.put(service("zz-sentinel", ports, number=_SENTINEL))
        self.api.put(*slices("zz-sentinel", LOCAL[:1], ports))

        async def reached() -> None:
            # An attempt that comes too early may go unanswered for a second, so it is a short one;
            # on a slow machine, a longer one later.
            patience = itertools.chain((0.05, 0.05, 0.1, 0.1, 0.2), itertools.repeat(0.4))
            for family in FAMILIES:
                address = service_address(_SENTINEL, family)
                await self.eventually(
                    lambda address=address: ask(  # type: ignore[misc]
                        self.hosts["pod"], address, port, patience=next(patience)
                    ),
                    lambda answer: bool(answer.source),
                    seconds,
                )

        try:
            asyncio.run(reached())
        except AssertionError as error:
            logs = "\n".join(each.tail() for each in self._rest)
            raise AssertionError(f"the proxy's rules do not come: {error}\n{logs}") from None
        return time.monotonic() - begun

    def change(self, *objects: Json) -> None:
        """Put objects and wait for the rules."""
        self.api.put(*objects)
        self.settle()

    async def eventually(
        self,
        question: Callable[[], Awaitable[Answer]],
        right: Callable[[Answer], bool],
        seconds: float = PATIENCE,
    ) -> Answer:
        """Ask again and again until the answer is right."""
        end = time.monotonic() + seconds
        while True:
            answer = await question()
            if right(answer):
                return answer
            assert time.monotonic() < end, f"not within {seconds} s; the last answer: {answer}"
            await asyncio.sleep(0.01)

    def rules(self) -> str:
        """Return everything that is in the node's netfilter, by each of the tools."""
        return self.hosts["node"].run(
            "nft -s list ruleset; iptables-nft-save; ip6tables-nft-save; "
            "iptables-legacy-save; ip6tables-legacy-save"
        )

    def wipe(self) -> None:
        """Remove all rules and tracked connections of the node, by no proxy's help."""
        node = self.hosts["node"]
        node.run("nft flush ruleset")
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            for table in ("nat", "filter", "mangle", "raw"):
                node.run(f"{tool} -t {table} -F; {tool} -t {table} -X")
        forget(node)

    def _stop_all(self) -> None:
        for each in self._rest:
            each.stop()


def stripped(rules: str) -> str:
    """Return rules without counters, comments, and what the tools make by being used.

    Those are base chains without a rule, and iptables' tables of nothing else.
    """
    rules = re.sub(r"\[\d+:\d+\]|counter packets \d+ bytes \d+|^#.*$", "", rules, flags=re.M)
    rules = re.sub(r"\tchain [A-Z]+ \{\n\t\ttype .* policy accept;\n\t\}\n", "", rules)
    rules = re.sub(r"^:[A-Z]+ ACCEPT\s*$|^\*\w+$|^COMMIT$|^\s*$", "", rules, flags=re.M)
    rules = re.sub(r"\n+", "\n", rules)
    return re.sub(r"table ip6? (nat|filter|mangle|raw) \{\n\}\n", "", rules)


def _places(hosts: Topology) -> list[Place]:
    def place(host: str, count: int) -> Place:
        addresses = tuple(pod_address(host, f, index) for f in FAMILIES for index in range(count))
        return Place(str(hosts[host].path), addresses, (PORT, OTHER_PORT))

    return [place("local", MANY), place("remote", MANY), place("self", 1)]
