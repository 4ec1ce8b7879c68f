"""Hosts made of network namespaces, each in both families; nothing of the machine's own is touched.

::

    outside, attacker --+
    router (default) ---+-- wire -- node ------ pod, self, local (many addresses)
                        +---------- neighbour -- far, remote (many addresses)

The proxy under test runs in ``node``. Pods have addresses of their own alone (/32, /128): all they
send goes through their node, as with a routed network plug-in. The router knows no Service: what no
proxy takes comes back from it as unreachable, at once.
"""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kubeletpy_common.linux.namespaces import CLONE_NEWNET, in_namespace, unshare
from tests.support.circumstances import patient

FAMILIES = (4, 6)
MANY = 24  # addresses of `local` and `remote` each
_WIRE = {4: "192.168.77.", 6: "fd77::"}
_SECOND = {4: "172.29.0.", 6: "fd78::"}
_PODS = {
    "node": {4: "10.244.1.", 6: "fd00:244:1::"},
    "neighbour": {4: "10.244.2.", 6: "fd00:244:2::"},
}
_LENGTH = {4: 24, 6: 64}
_HOST = {4: 32, 6: 128}
CLUSTER_CIDRS = {4: "10.244.0.0/16", 6: "fd00:244::/32"}
NODE_CIDRS = {4: "10.244.1.0/24", 6: "fd00:244:1::/64"}
WIRE_CIDRS = {4: "192.168.77.0/24", 6: "fd77::/64"}
SERVICES = {4: "10.96.", 6: "fd00:96::"}
PUBLIC = {4: "203.0.113.", 6: "2001:db8:113::"}
_ROUTED = {4: ("10.96.0.0/16", "203.0.113.0/24"), 6: ("fd00:96::/64", "2001:db8:113::/64")}
BRIDGE = "cni0"

# Where each host is: on the wire by number; or a pod: its node, and its numbers there.
_ON_WIRE = {"node": 10, "neighbour": 11, "outside": 20, "attacker": 66, "router": 1}
_PODS_OF = {
    "pod": ("node", (10, 11, 12)),
    "self": ("node", (20,)),
    "local": ("node", tuple(range(101, 101 + MANY))),
    "far": ("neighbour", (10,)),
    "remote": ("neighbour", tuple(range(101, 101 + MANY))),
}
OUTSIDE_SECOND = 21
"""Number of a second address of ``outside`` on the wire."""


class Namespace:
    """A new network namespace, which ends when it is closed and nothing else holds it."""

    def __init__(self) -> None:
        opened: list[int] = []

        def make() -> None:
            unshare(CLONE_NEWNET)
            opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

        maker = threading.Thread(target=make)
        maker.start()
        maker.join()
        [self.descriptor] = opened

    @property
    def path(self) -> Path:
        """Where it can be opened, by children of this process too."""
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")

    def run(self, command: str, input: str | None = None) -> str:
        """Run a shell command inside; return what it printed; AssertionError if it failed."""
        with in_namespace(self.path):
            done = subprocess.run(
                ["sh", "-euc", command],
                capture_output=True,
                text=True,
                timeout=patient(60),
                input=input,
            )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def set(self, **settings: object) -> None:
        """Write values below /proc/sys/net; ``__`` in a name stands for a slash."""
        with in_namespace(self.path):
            for name, value in settings.items():
                Path("/proc/sys/net", name.replace("__", "/")).write_text(str(value))

    def close(self) -> None:
        """Let go of it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def wire_address(host: str, family: int, number: int | None = None) -> str:
    """Return the address of a host on the wire."""
    return _WIRE[family] + _text(number or _ON_WIRE[host], family)


def second_address(host: str, family: int) -> str:
    """Return the address of a host in the second network on the wire; not all have one."""
    return _SECOND[family] + _text(_ON_WIRE[host], family)


def pod_address(pod: str, family: int, index: int = 0) -> str:
    """Return an address of a pod."""
    node, numbers = _PODS_OF[pod]
    return _PODS[node][family] + _text(numbers[index], family)


def gateway(node: str, family: int) -> str:
    """Return the address of a node's bridge."""
    return _PODS[node][family] + "1"


def service_address(number: int, family: int) -> str:
    """Return a cluster IP."""
    high, low = divmod(number, 250)
    return SERVICES[family] + (f"{high}.{low + 1}" if family == 4 else f"{high + 1:x}:{low + 1:x}")


def public_address(number: int, family: int) -> str:
    """Return an external or load-balancer IP; the outside routes it to the node."""
    return PUBLIC[family] + _text(number, family)


def _text(number: int, family: int) -> str:
    return str(number) if family == 4 else f"{number:x}"


@dataclass
class Topology:
    """All hosts, wired."""

    hosts: dict[str, Namespace]

    @classmethod
    def build(cls) -> Topology:
        """Make it; takes about a second."""
        made = cls({name: Namespace() for name in ("wire", *_ON_WIRE, *_PODS_OF)})
        try:
            made._switch()
            for host in _ON_WIRE:
                made._plug(host)
            for node in _PODS:
                made._bridge(node)
            made._routes()
        except BaseException:
            made.close()
            raise
        return made

    def __enter__(self) -> Topology:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, host: str) -> Namespace:
        return self.hosts[host]

    def close(self) -> None:
        """Let go of all of it."""
        for each in self.hosts.values():
            each.close()

    def node_addresses(self, family: int) -> set[str]:
        """Return what a source may be after the node masqueraded it."""
        on_wire = {wire_address("node", family), second_address("node", family)}
        return {*on_wire, gateway("node", family)}

    def _switch(self) -> None:
        self["wire"].run(
            "ip link add br0 type bridge forward_delay 0 mcast_snooping 0; ip link set br0 up"
        )

    def _plug(self, host: str) -> None:
        """Connect a host to the wire."""
        space = self[host]
        space.set(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        space.set(ipv4__conf__all__rp_filter=0, ipv4__conf__default__rp_filter=0)
        # Refusals are counted by the case, not by the second.
        space.set(ipv4__icmp_ratelimit=0, ipv6__icmp__ratelimit=0, ipv4__icmp_msgs_per_sec=100000)
        space.set(ipv4__conf__all__send_redirects=0, ipv4__conf__default__send_redirects=0)
        space.run(
            f"ip link set lo up; ip link add eth0 type veth peer name {host} "
            f"netns {self['wire'].path}; ip link set eth0 up"
        )
        self["wire"].run(f"ip link set {host} master br0 up")
        lines = []
        for family in FAMILIES:
            lines.append(_add(wire_address(host, family), _LENGTH[family], "eth0"))
            others = []
            if host in ("node", "neighbour", "outside"):
                others.append(second_address(host, family))
            if host == "outside":
                others.append(wire_address(host, family, OUTSIDE_SECOND))
            # No source that is chosen where there is none given.
            lines += [f"{_add(each, _LENGTH[family], 'eth0')} preferred_lft 0" for each in others]
        space.run("ip -batch -", "\n".join(lines))

    def _bridge(self, node: str) -> None:
        """Make the node's bridge and its pods."""
        space = self[node]
        space.run(
            f"ip link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0; "
            f"ip link set {BRIDGE} up"
        )
        lines = [_add(gateway(node, family), _LENGTH[family], BRIDGE) for family in FAMILIES]
        space.run("ip -batch -", "\n".join(lines))
        for pod, (where, numbers) in _PODS_OF.items():
            if where == node:
                self._pod(pod, node, numbers)

    def _pod(self, pod: str, node: str, numbers: tuple[int, ...]) -> None:
        space = self[pod]
        space.set(ipv4__conf__all__accept_redirects=0, ipv4__conf__default__accept_redirects=0)
        space.set(ipv6__conf__all__accept_redirects=0, ipv6__conf__default__accept_redirects=0)
        space.run(
            f"ip link set lo up; ip link add eth0 type veth peer name veth-{pod} "
            f"netns {self[node].path}; ip link set eth0 up"
        )
        self[node].run(f"ip link set veth-{pod} master {BRIDGE} up")
        # As network plug-ins have it: what is for the pod itself goes back to it.
        self[node].run(f"ip link set veth-{pod} type bridge_slave hairpin on")
        lines = []
        for family in FAMILIES:
            prefix, way = _PODS[node][family], gateway(node, family)
            lines += [
                _add(prefix + _text(number, family), _HOST[family], "eth0") for number in numbers
            ]
            source = prefix + _text(numbers[0], family)
            lines += [
                f"route add {way} dev eth0 src {source}",
                f"route add default via {way} dev eth0 src {source}",
            ]
        space.run("ip -batch -", "\n".join(lines))

    def _routes(self) -> None:
        for family in FAMILIES:
            default = f"route add default via {wire_address('router', family)}"
            pods = {
                node: f"{_PODS[node][family]}{'0/24' if family == 4 else '/64'}" for node in _PODS
            }
            via = {host: wire_address(host, family) for host in _ON_WIRE}
            to_node = [f"route add {each} via {via['node']}" for each in _ROUTED[family]]
            lines = {
                "node": [default, f"route add {pods['neighbour']} via {via['neighbour']}"],
                "neighbour": [default, f"route add {pods['node']} via {via['node']}", *to_node],
                "outside": [default, *to_node],
                "attacker": to_node,
                "router": [
                    *(f"route add unreachable {each}" for each in _ROUTED[family]),
                    *(f"route add {pods[node]} via {via[node]}" for node in _PODS),
                ],
            }
            for host, commands in lines.items():
                self[host].run("ip -batch -", "\n".join(commands))


def _add(address: str, length: int, link: str) -> str:
    return f"addr add {address}/{length} dev {link}" + (" nodad" if ":" in address else "")
