"""The netfilter rules of port mappings: their text as pure functions.

Beside the chain of the module ``rules`` each bridge has, while a pod has port mappings:

* ``nat``, chain ``<CHAIN>-hp``, from PREROUTING and OUTPUT for packets to an address of the node:
  the host ports, each sent on to its pod. A packet from a pod of this bridge, or from the node's
  own 127.0.0.1, is marked as well: the pod's answer would not come back the same way otherwise.
* ``nat``, chain ``<CHAIN>-hm``, from POSTROUTING for marked packets to the bridge: masquerades.
* ``raw`` (IPv4), chain ``<CHAIN>``, from the beginning of PREROUTING: the guard. A node's
  127.0.0.1 reaches a pod only with ``route_localnet`` on the bridge, which also lets pods reach
  what listens on the node's loopback (CVE-2020-8558); and the destination is changed before the
  kernel looks for martians, so a neighbour of the node could reach ports published on 127.0.0.1
  alone. So what comes from any other link than ``lo`` and is for 127/8 is dropped, before
  connection tracking, where an answer to us still bears the node's own address. The same goes for
  packets of pods that claim to be from there.

The text is always that of all mappings of a family: a chain is emptied and filled in one
transaction, so that it can be wrong only as a whole, and any later change mends it.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Final

from runtime.network.rules import RuleSet, jumps_to, section

MARK: Final = "0x2000/0x2000"
"""The packet mark: the bit that the CNI plugin portmap uses for the same purpose."""

_LOOPBACK: Final = "127.0.0.0/8"


@dataclass(frozen=True)
class Forward:
    """One host port of one family, and where it leads.

    Attributes:
        sandbox_id: the owner.
        family: AF_INET or AF_INET6.
        protocol: ``tcp``, ``udp`` or ``sctp``.
        host_ip: an address of the node; "" means all of the family's.
        host_port: the node's.
        pod_ip: the pod's address.
        pod_port: the pod's.
        label: the pod's name for people, or "".
    """

    sandbox_id: str
    family: int
    protocol: str
    host_ip: str
    host_port: int
    pod_ip: str
    pod_port: int
    label: str = ""

    @property
    def covers_loopback(self) -> bool:
        """Whether the node's 127.0.0.1 (or another of 127/8) leads to the pod."""
        if self.family != socket.AF_INET:
            return False
        return not self.host_ip or IPv4Address(self.host_ip).is_loopback


@dataclass(frozen=True)
class PortRules:
    """The rules of one family's port mappings, beside those of ``base``."""

    base: RuleSet

    @property
    def _version(self) -> int:
        return self.base.subnet.version

    @property
    def ports_chain(self) -> str:
        """Of lower case at its end, so that no other bridge's name can make it."""
        return f"{self.base.chain}-hp"

    @property
    def masquerade_chain(self) -> str:
        """See the module's text."""
        return f"{self.base.chain}-hm"

    def forwards(self, forwards: Iterable[Forward]) -> str:
        """Return the input for iptables-restore that makes ``forwards`` all there is."""
        return "\n".join(["*nat", *self._filled(forwards), "COMMIT"]) + "\n"

    def _filled(self, forwards: Iterable[Forward]) -> list[str]:
        # Naming a chain of ours empties it, even with --noflush.
        lines = [f":{self.ports_chain} - [0:0]"]
        for forward in forwards:
            lines += [f"-A {self.ports_chain} {rule}" for rule in self._rules(forward)]
        return lines

    def _rules(self, forward: Forward) -> list[str]:
        protocol = forward.protocol
        match = f"-p {protocol} -m {protocol} --dport {forward.host_port}"
        if forward.host_ip:
            match = f"-d {forward.host_ip} {match}"
        comment = self.base.comment(f"pod {forward.sandbox_id[:12]}")
        target = ip_address(forward.pod_ip)
        where = f"[{target}]" if target.version == 6 else str(target)
        sources = [str(self.base.subnet)] + ([_LOOPBACK] if forward.covers_loopback else [])
        return [
            *(f"-s {source} {match} {comment} -j MARK --set-xmark {MARK}" for source in sources),
            f"{match} {comment} -j DNAT --to-destination {where}:{forward.pod_port}",
        ]

    def _jumps(self) -> list[tuple[str, str]]:
        """Return table and rule, without the leading ``-A``, of each way into our chains."""
        comment = self.base.comment("host ports")
        # ::1 cannot be forwarded from: what the node itself has there stays reachable.
        own = "! -d ::1/128 " if self._version == 6 else ""
        local = f"-m addrtype --dst-type LOCAL {comment} -j {self.ports_chain}"
        return [
            ("nat", f"PREROUTING {local}"),
            ("nat", f"OUTPUT {own}{local}"),
            ("nat", f"POSTROUTING -o {self.base.bridge} -m mark --mark {MARK} {comment} "
                    f"-j {self.masquerade_chain}"),
        ]  # fmt: skip

    def install(self, saved: str, forwards: Sequence[Forward]) -> str:
        """Return the input for iptables-restore that makes everything.

        Args:
            saved: what iptables-save printed: jumps that are there stay.
            forwards: all mappings of the family.
        """
        lines: list[str] = []
        if self._version == 4:
            lines += self._guard(saved)
        lines += ["*nat", f":{self.masquerade_chain} - [0:0]"]
        lines += [f"-A {self.masquerade_chain} -j MASQUERADE", *self._filled(forwards)]
        for chain in (self.ports_chain, self.masquerade_chain):
            wanted = [rule for table, rule in self._jumps() if rule.endswith(f" -j {chain}")]
            present = jumps_to(saved, "nat", chain)
            lines += [f"-D {rule}" for rule in present]
            lines += [f"-A {rule}" for rule in wanted]
        return "\n".join([*lines, "COMMIT"]) + "\n"

    def _guard(self, saved: str) -> list[str]:
        chain = self.base.chain
        comment = self.base.comment("loopback is not for others")
        lines = ["*raw", f":{chain} - [0:0]"]
        lines += [
            f"-A {chain} ! -i lo -d {_LOOPBACK} {comment} -j DROP",
            f"-A {chain} -i {self.base.bridge} -s {_LOOPBACK} {comment} -j DROP",
        ]
        jump = f"PREROUTING {self.base.comment('guard')} -j {chain}"
        present = jumps_to(saved, "raw", chain)
        if [shlex.split(rule) for rule in present] != [shlex.split(jump)]:
            lines += [f"-D {rule}" for rule in present]
            # First, so that no rule of others can let such packets pass.
            lines.append(f"-I {jump}")
        return [*lines, "COMMIT"]

    def remove(self, saved: str) -> str:
        """Return the input for iptables-restore that undoes it; empty if there is nothing."""
        lines: list[str] = []
        for table, chains in (
            ("nat", (self.ports_chain, self.masquerade_chain)),
            ("raw", (self.base.chain,)),
        ):
            present = [chain for chain in chains if f":{chain} " in section(saved, table)]
            if not present:
                continue
            lines.append(f"*{table}")
            lines += [f":{chain} - [0:0]" for chain in present]
            for chain in present:
                lines += [f"-D {rule}" for rule in jumps_to(saved, table, chain)]
            lines += [f"-X {chain}" for chain in present]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n" if lines else ""
