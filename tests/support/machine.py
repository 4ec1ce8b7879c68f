"""The machine before and after: what a test left behind, by kind and name.

Use through the fixtures of ``tests/root/conftest.py``, which check every test there, or by hand::

    before = MachineState.capture()
    ...
    assert before.leaks() == []
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import probes
from tests.support.circumstances import patient

ALONE_VARIABLE = "KUBELETPY_TESTS_ALONE"
OUR_DIRECTORIES = tuple(
    Path(path)
    for path in (
        "/run/kubeletpy",
        "/var/lib/kubeletpy",
        "/var/lib/kubelet",
        "/var/log/pods",
        "/var/log/containers",
        "/etc/cni",
        "/etc/kubernetes",
        "/run/netns",
    )
)
_SHALLOW = tuple(Path(path) for path in ("/run", "/dev/shm", "/var/lib", "/var/log", "/etc"))
# iptables(8), ip-netns(8), podman, CNI plugins, systemd-analyze(1) and systemd's first service make
# these at their first use, and keep them.
_IGNORED = (
    Path("/run/xtables.lock"),
    Path("/run/netns"),
    Path("/run/containers"),
    Path("/run/lock"),
    Path("/var/lib/cni"),
    Path("/var/lib/containers"),
    Path("/etc/cni/net.d/cni.lock"),
    Path("/run/systemd"),
)
_POLL_SECONDS = 0.02


def run_token() -> str:
    """Return the mark in the environment of everything started by this test run."""
    return os.environ.setdefault(probes.TOKEN_VARIABLE, secrets.token_hex(8))


@dataclass(frozen=True)
class Scope:
    """What counts as ours.

    Attributes:
        strict: everything on the machine counts. Otherwise other people's tests run here too, and
            only what can be told to be ours counts: our processes, links and cgroups whose name
            contains one of ``names``, mounts and files below ``directories``.
        names: parts of names of links, cgroups, chains and sockets, see ``strict``.
        directories: directories besides ``OUR_DIRECTORIES`` that are searched for files.
        settle: for how many seconds a difference is looked at again before it counts.
    """

    strict: bool = True
    names: tuple[str, ...] = ()
    directories: tuple[Path, ...] = ()
    settle: float = patient(3)

    @classmethod
    def of_environment(cls) -> Scope:
        """Return a strict scope if the variable above says that nobody else works here.

        ``tests/run`` sets it; a test started by hand, beside other work, is not blamed for that.
        """
        return cls(strict=bool(os.environ.get(ALONE_VARIABLE)))


@dataclass
class Allowances:
    """What a longer-lived fixture may keep while the tests that use it run.

    A module's daemon may start a process or make a bridge in the first test that uses it. It says
    so here; when the module is over, nothing of it may be left.
    """

    _parts: dict[str, list[str]] = field(default_factory=dict)

    def allow(self, kind: str, part: str) -> None:
        """Allow changes of ``kind`` (a key of ``MachineState.kinds``) that contain ``part``."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
        self._parts.setdefault(kind, []).append(part)

    def covers(self, change: Change) -> bool:
        """Tell whether ``change`` is allowed."""
        return any(part in change.description for part in self._parts.get(change.kind, []))


@dataclass(frozen=True)
class Change:
    """One difference of two states."""

    kind: str
    left_behind: bool
    description: str

    def __str__(self) -> str:
        what = "left behind" if self.left_behind else "gone, but was there before"
        return f"{what}: {self.description} [{self.kind}]"


KINDS = (
    "processes",
    "mounts",
    "network namespaces",
    "links",
    "addresses and routes",
    "cgroups",
    "iptables",
    "abstract sockets",
    "sysctls",
    "files",
)


@dataclass(frozen=True)
class MachineState:
    """What was on the machine at one moment.

    Attributes:
        kinds: for each of ``KINDS`` the things by identity, with their descriptions.
        scope: what was looked at.
    """

    kinds: dict[str, probes.Entries]
    scope: Scope

    @classmethod
    def capture(cls, scope: Scope | None = None) -> MachineState:
        """Look at the machine now, as seen from this thread's namespaces."""
        scope = scope or Scope.of_environment()
        deep = (*OUR_DIRECTORIES, *scope.directories) if scope.strict else scope.directories
        found = {
            "processes": probes.processes(os.getpid(), run_token(), of_others=scope.strict),
            "mounts": probes.mounts(),
            "network namespaces": probes.network_namespaces(),
            "links": probes.links(),
            "addresses and routes": probes.addresses_and_routes(),
            "cgroups": probes.cgroups(),
            "iptables": probes.iptables(),
            "abstract sockets": probes.abstract_sockets(),
            "sysctls": probes.sysctls(),
            "files": probes.files(deep, _SHALLOW if scope.strict else (), _IGNORED),
        }
        if not scope.strict:
            found = {kind: _named(kind, entries, scope) for kind, entries in found.items()}
        return cls(found, scope)

    def changes(self, later: MachineState) -> list[Change]:
        """Return what differs in ``later``: first what was left behind, then what was lost."""
        added, lost = [], []
        for kind in KINDS:
            before, after = self.kinds[kind], later.kinds[kind]
            added += [Change(kind, True, after[key]) for key in after.keys() - before.keys()]
            lost += [
                Change(kind, False, before[key])
                for key in before.keys() - after.keys()
                # Who had ended before has been reaped since: that is how it should be.
                if not (kind == "processes" and before[key].endswith("(state Z)"))
            ]
        return sorted(added, key=str) + sorted(lost, key=str)

    def leaks(
        self, allowances: Allowances | None = None, settle: float | None = None
    ) -> list[Change]:
        """Compare with the machine as it is now; return what differs and is not allowed.

        The kernel takes some things away a moment after the call that ended them (dead processes,
        links of a dead namespace), and has no event for all of that: so a difference is looked at
        again for ``settle`` seconds (by default the scope's) before it counts.
        """
        return self.settled(allowances, settle)[0]

    def settled(
        self, allowances: Allowances | None = None, settle: float | None = None
    ) -> tuple[list[Change], MachineState]:
        """Return what `leaks` returns, and the machine as it was seen last."""
        allowances = allowances or Allowances()
        deadline = time.monotonic() + (self.scope.settle if settle is None else settle)
        while True:
            now = MachineState.capture(self.scope)
            bad = [change for change in self.changes(now) if not allowances.covers(change)]
            if not bad or time.monotonic() > deadline:
                return bad, now
            time.sleep(_POLL_SECONDS)


def report(changes: list[Change], where: str) -> str:
    """Return the message of a failed check: one line for each of ``changes``."""
    lines = "\n".join(f"  {change}" for change in changes)
    return f"{where} did not leave the machine as it was:\n{lines}"


def _named(kind: str, entries: probes.Entries, scope: Scope) -> probes.Entries:
    """Keep of ``entries`` what is ours on a shared machine."""
    if kind in ("processes", "files"):
        return entries
    parts: tuple[str, ...] = scope.names
    if kind in ("mounts", "network namespaces"):
        parts = (*parts, *(str(directory) for directory in scope.directories))
    return {key: text for key, text in entries.items() if any(part in text for part in parts)}
