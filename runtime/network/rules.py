"""The netfilter rules of a bridge: their text as a pure function, and its application.

All rules are in one chain of ours per table, named after the bridge. The tables' own chains get
one jump each, at their end, so that what the administrator forbids stays forbidden:

* ``nat``: what leaves the pod network gets the node's address. Traffic between pods and
  multicast keep theirs.
* ``filter``: pods may be forwarded to and from, where the policy of FORWARD is DROP.

``iptables-restore`` works on a table as a whole or not at all. With ``--noflush`` it leaves
alone what is not named in its input; but it cannot ask whether a rule is there, so the present
rules are read by ``iptables-save`` first: a second run adds no second jump.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from runtime.network.errors import NetworkError

_LOCK_WAIT_SECONDS: Final = 5
_DEADLINE_SECONDS: Final = 15.0
# A daemon's PATH may lack what Debian has the programs in.
_SYSTEM_DIRECTORIES: Final = ("/usr/sbin", "/sbin")
_MULTICAST: Final = {4: "224.0.0.0/4", 6: "ff00::/8"}
_TABLES: Final = (("nat", "POSTROUTING"), ("filter", "FORWARD"))


def chain_of(bridge: str) -> str:
    """Return the name of the chain of a bridge."""
    return f"KUBELETPY-{bridge.upper()}"


@dataclass(frozen=True)
class RuleSet:
    """The rules for one family of one bridge."""

    bridge: str
    subnet: IPv4Network | IPv6Network
    no_masquerade: tuple[str, ...] = ()

    @property
    def chain(self) -> str:
        """The name of our chain: at most 25 of the 28 characters that netfilter allows."""
        return chain_of(self.bridge)

    @property
    def program(self) -> str:
        """``iptables`` or ``ip6tables``."""
        return "iptables" if self.subnet.version == 4 else "ip6tables"

    def rules(self, table: str) -> list[str]:
        """Return the rules of our chain in ``table``, without the leading ``-A CHAIN``."""
        if table == "filter":
            return [
                f"-i {self.bridge} {self.comment('from pods')} -j ACCEPT",
                f"-o {self.bridge} {self.comment('to pods')} -j ACCEPT",
            ]
        multicast = _MULTICAST[self.subnet.version]
        return [
            f"-d {self.subnet} {self.comment('pod to pod')} -j RETURN",
            *(
                f"-d {network} {self.comment('pod to pod of any node')} -j RETURN"
                for network in self.no_masquerade
                if ip_network(network).version == self.subnet.version
            ),
            f"-d {multicast} {self.comment('multicast')} -j RETURN",
            f"{self.comment('pod to outside')} -j MASQUERADE",
        ]

    def jump(self, table: str) -> str:
        """Return the rule that leads to our chain, without the leading ``-A``."""
        source = f"-s {self.subnet} " if table == "nat" else ""
        parent = dict(_TABLES)[table]
        return f"{parent} {source}{self.comment('pod network')} -j {self.chain}"

    def comment(self, text: str) -> str:
        """Return the match that only says in the rules' listing whose a rule is, and why."""
        return f'-m comment --comment "kubeletpy {self.bridge}: {text}"'

    def install(self, saved: str) -> str:
        """Return the input for iptables-restore that makes the rules.

        Args:
            saved: what iptables-save printed. Jumps of ours that are there stay where they are
                if they are right, and go if they are of other settings.
        """
        lines: list[str] = []
        for table, _ in _TABLES:
            jumps = self._jumps(saved, table)
            wanted = shlex.split(self.jump(table))
            keep = [jump for jump in jumps if shlex.split(jump) == wanted][:1]
            doomed = list(jumps)
            for jump in keep:
                doomed.remove(jump)
            # Naming a chain of ours empties it, even with --noflush.
            lines += [f"*{table}", f":{self.chain} - [0:0]"]
            lines += [f"-D {jump}" for jump in doomed]
            lines += [f"-A {self.chain} {rule}" for rule in self.rules(table)]
            lines += [] if keep else [f"-A {self.jump(table)}"]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n"

    def is_whole(self, saved: str) -> bool:
        """Tell whether all rules, and the jumps to them, are in what iptables-save printed."""
        for table, _ in _TABLES:
            lines = section(saved, table).splitlines()
            count = sum(line.startswith(f"-A {self.chain} ") for line in lines)
            wanted = shlex.split(self.jump(table))
            there = any(shlex.split(jump) == wanted for jump in self._jumps(saved, table))
            if count != len(self.rules(table)) or not there:
                return False
        return True

    def remove(self, saved: str) -> str:
        """Return the input for iptables-restore that undoes it; empty if there is nothing."""
        lines: list[str] = []
        for table, _ in _TABLES:
            if f":{self.chain} " not in section(saved, table):
                continue
            lines += [f"*{table}", f":{self.chain} - [0:0]"]
            lines += [f"-D {jump}" for jump in self._jumps(saved, table)]
            lines += [f"-X {self.chain}", "COMMIT"]
        return "\n".join(lines) + "\n" if lines else ""

    def _jumps(self, saved: str, table: str) -> list[str]:
        """Return the saved rules of built-in chains that lead to our chain."""
        return jumps_to(saved, table, self.chain)


def jumps_to(saved: str, table: str, chain: str) -> list[str]:
    """Return the rules of ``table`` that lead to ``chain``, without the leading ``-A``."""
    return [
        line.removeprefix("-A ")
        for line in section(saved, table).splitlines()
        if line.startswith("-A ") and line.endswith(f" -j {chain}")
    ]


def section(saved: str, table: str) -> str:
    """Return the lines of one table of iptables-save's output."""
    _, found, rest = saved.partition(f"*{table}\n")
    return rest.partition("\nCOMMIT")[0] + "\n" if found else ""


async def apply(rules: RuleSet) -> None:
    """Make the rules, whatever was there of them before.

    Raises:
        NetworkError: the programs are missing, or refused.
    """
    await restore(rules, rules.install(await save(rules)))


async def withdraw(rules: RuleSet, *others: Callable[[str], str]) -> None:
    """Remove the rules; harmless where there are none, or no such programs.

    Args:
        rules: whose rules.
        others: each like :meth:`RuleSet.remove`, for rules that are to go with them.

    Raises:
        NetworkError: the programs refused.
    """
    if find(f"{rules.program}-save") is None:
        return
    saved = await save(rules)
    text = "".join(remove(saved) for remove in (*others, rules.remove))
    if text:
        await restore(rules, text)


def find(name: str) -> str | None:
    """Return where a program of iptables is, None if it is not there."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES))
    return shutil.which(name, path=path)


async def save(rules: RuleSet) -> str:
    """Return all rules of the family, as iptables-save prints them.

    Raises:
        NetworkError: the program is missing, or failed.
    """
    return await _run(f"{rules.program}-save", [], "")


async def restore(rules: RuleSet, text: str) -> None:
    """Make the changes of ``text``; those of each table are made wholly or not at all.

    Raises:
        NetworkError: the program is missing, or refused.
    """
    await _run(f"{rules.program}-restore", ["--noflush", "-w", str(_LOCK_WAIT_SECONDS)], text)


async def _run(name: str, arguments: list[str], text: str) -> str:
    program = find(name)
    if program is None:
        raise NetworkError(
            f"{name} is not on PATH, so pods cannot reach beyond this node; install it "
            "(Debian: apt-get install iptables)"
        )
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            output, errors = await process.communicate(text.encode())
    except TimeoutError:
        raise NetworkError(f"{name} has not ended after {_DEADLINE_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise NetworkError(
            f"{name} failed with status {process.returncode}: "
            f"{errors.decode(errors='replace').strip()}; its input was:\n{text}"
        )
    return output.decode(errors="replace")
