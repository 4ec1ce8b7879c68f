"""Reads what of the machine can leak: one function a kind, each returns {identity: description}.

Identities are equal exactly when the thing is the same one; a description is for a person.
Counters, mount ids and whatever else changes without anybody's doing is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyroute2 import IPRoute

from kubeletpy_common.cgroups.v2.leaf import LEAF
from tests.support.circumstances import ASIDE_VARIABLE, patient

TOKEN_VARIABLE = "KUBELETPY_TEST_RUN"
SYSCTLS = (
    "kernel/core_pattern",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/modprobe",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
)
# The init system makes and removes cgroups of its own here, at times of its own.
_FOREIGN_CGROUPS = ("/system.slice", "/user.slice", "/init.scope", "/machine.slice")
_IPTABLES = ("iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save")
_COUNTERS = re.compile(r"\[\d+:\d+\]\s*")

Entries = dict[str, str]


def processes(root_pid: int, token: str, *, of_others: bool) -> Entries:
    """Return the processes that stem from the process ``root_pid``, except itself.

    Those are its descendants, whatever carries ``token`` in its environment (so also what was
    reparented), the descendants of both, and, if asked, every process of another PID namespace or
    with a name of ours, whoever started it.
    """
    table = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None}
    own_namespace = _namespace(os.getpid(), "pid")
    seeds = {root_pid}
    settings = {pid: _environment(pid) for pid in table}
    aside = {pid for pid in table if f"{ASIDE_VARIABLE}=1".encode() in settings[pid]}
    for pid, (parent, _, _, name) in table.items():
        if pid == 2 or parent == 2:
            continue  # the kernel's own threads
        foreign = _namespace(pid, "pid") not in (own_namespace, "")
        if f"{TOKEN_VARIABLE}={token}".encode() in settings[pid] or (
            of_others
            and (foreign or name.startswith("kubeletpy"))
            and aside.isdisjoint(_line_of(pid, table))
        ):
            seeds.add(pid)
    ours = {pid for pid in table if any(up in seeds for up in _line_of(pid, table))}
    # What ended after its parent is init's to reap, whenever it comes to it.
    ours -= {pid for pid, (parent, _, state, _) in table.items() if (parent, state) == (1, "Z")}
    # What is about to end, its memory given back already, is not there to the next one who looks.
    ours -= {pid for pid in ours if table[pid][2] == "R" and _is_ending(pid)}
    return {
        f"{pid}:{table[pid][1]}": f"pid {pid} {_command(pid)} (state {table[pid][2]})"
        for pid in ours - {root_pid}
    }


def mounts() -> Entries:
    """Return the mounts of this mount namespace; equal ones on one another are counted.

    Not the one that ip-netns(8) makes of its directory at its first use, and keeps.
    """
    seen: Counter[str] = Counter()
    entries = {}
    for _, mountpoint, filesystem, source in _mountinfo():
        if mountpoint == "/run/netns" and filesystem != "nsfs":
            continue
        text = f"{filesystem} {source} on {mountpoint}"
        seen[text] += 1
        entries[f"{text} #{seen[text]}"] = text
    return entries


def network_namespaces() -> Entries:
    """Return the pinned network namespaces: those bind-mounted, and the names of ip-netns(8)."""
    entries = {
        root: f"{root} pinned on {mountpoint}"
        for root, mountpoint, filesystem, _ in _mountinfo()
        if filesystem == "nsfs" and root.startswith("net:")
    }
    named = Path("/run/netns")
    for path in sorted(named.iterdir()) if named.is_dir() else []:
        entries[f"name {path.name}"] = f"named {path.name}"
    return entries


def links() -> Entries:
    """Return the network links of this network namespace."""
    return {name: f"link {name} (index {index})" for index, name in socket.if_nameindex()}


def addresses_and_routes() -> Entries:
    """Return addresses, routes and routing rules of this network namespace, by netlink."""
    # pyroute2's blocking calls run an event loop, which a test that is a coroutine already has;
    # a new thread has none, and inherits the network namespace of this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_addresses_and_routes).result()


def _addresses_and_routes() -> Entries:
    names = dict(socket.if_nameindex())
    entries = {}
    with IPRoute() as netlink:
        for address in netlink.get_addr():
            index, length = address["index"], address["prefixlen"]
            local = address.get("local") or address.get("address")
            text = f"address {local}/{length} dev {names.get(index, index)}"
            entries[text] = text
        for route in netlink.get_routes():
            device = route.get("oif")
            target = f"{route.get('dst') or 'default'}/{route['dst_len']}"
            text = f"route {target} via {route.get('gateway')} dev {names.get(device, device)}"
            if route["type"] != 3 and not route["flags"] & 0x200:  # broadcasts; RTM_F_CLONED
                entries[f"{text} table {route.get('table')}"] = text
        for rule in netlink.get_rules():
            text = f"rule {rule.get('priority', 0)} table {rule.get('table')}"
            entries[f"{text} family {rule['family']}"] = text
    return entries


def cgroups() -> Entries:
    """Return the cgroups of all hierarchies, those of the init system left out."""
    where: dict[str, list[str]] = {}
    for _, mountpoint, filesystem, _ in _mountinfo():
        if filesystem not in ("cgroup", "cgroup2"):
            continue
        for directory, below, _ in os.walk(mountpoint):
            path = directory[len(mountpoint) :] or "/"
            # Where a container's own root has the processes of the tests, they are moved there.
            if path.startswith((*_FOREIGN_CGROUPS, f"/{LEAF}")):
                below.clear()
                continue
            where.setdefault(path, []).append(mountpoint)
    texts = {path: f"cgroup {path} in {' '.join(sorted(found))}" for path, found in where.items()}
    return {text: text for text in texts.values()}


def iptables() -> Entries:
    """Return tables, chains and rules of both families and both back ends.

    Counters are dropped, and so are built-in chains that accept: the tools make those by being
    run, even by only being asked.
    """
    entries = {}
    for program in _IPTABLES:
        if shutil.which(program) is None:
            continue
        saved = subprocess.run(
            [program], capture_output=True, text=True, check=True, timeout=patient(20)
        )
        table = ""
        for line in saved.stdout.splitlines():
            plain = _COUNTERS.sub("", line).strip()
            if plain.startswith("*"):
                table = plain[1:]
            elif plain.startswith("-") or (plain.startswith(":") and not plain.endswith(" ACCEPT")):
                text = f"{program.removesuffix('-save')} -t {table}: {plain}"
                entries[text] = text
    return entries


def abstract_sockets() -> Entries:
    """Return the abstract unix sockets of this network namespace."""
    lines = Path("/proc/thread-self/net/unix").read_text().splitlines()[1:]
    names = (fields[7] for line in lines if len(fields := line.split(maxsplit=7)) == 8)
    return {name: f"abstract socket {name}" for name in names if name.startswith("@")}


def sysctls() -> Entries:
    """Return the kernel's settings that a node may touch."""
    entries = {}
    for name in SYSCTLS:
        try:
            value = Path("/proc/sys", name).read_text().strip()
        except OSError:
            continue  # this kernel has no such setting
        entries[f"{name}={value}"] = f"sysctl {name} = {value}"
    return entries


def files(recursive: Iterable[Path], shallow: Iterable[Path], ignored: Iterable[Path]) -> Entries:
    """Return the paths below ``recursive`` and directly in ``shallow``, except ``ignored``."""
    found: set[str] = set()
    for top in recursive:
        if os.path.lexists(top):
            found.add(str(top))
        for directory, below, names in os.walk(top):
            found.update(os.path.join(directory, name) for name in below + names)
    for top in shallow:
        found.update(str(path) for path in top.iterdir()) if top.is_dir() else None
    return {path: f"file {path}" for path in sorted(found - {str(path) for path in ignored})}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> tuple[int, str, str, str] | None:
    """Return parent, start in ticks since boot, state, and name; None if the process is gone."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    end = content.rindex(")")  # the name may hold blanks and brackets
    fields = content[end + 2 :].split()
    return int(fields[1]), fields[19], fields[0], content[content.index("(") + 1 : end]


def _is_ending(pid: int) -> bool:
    """Whether a process is on its way out (``PF_EXITING`` of its flags, see proc_pid_stat(5))."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return bool(int(content[content.rindex(")") + 2 :].split()[6]) & 0x4)


def _line_of(pid: int, table: dict[int, tuple[int, str, str, str]]) -> Iterator[int]:
    """Yield ``pid``, its parent, its parent's parent and so on."""
    while pid in table:
        yield pid
        pid = table[pid][0]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""  # gone, or a zombie: those have no namespaces any more


def _command(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "(gone)"
    line = b" ".join(arguments).decode(errors="replace").strip()
    return repr(line[:200]) if line else f"[{name}]"


def _mountinfo() -> Iterator[tuple[str, str, str, str]]:
    """Yield (root, mount point, type, source) of each mount, see proc_pid_mountinfo(5)."""
    for line in Path("/proc/thread-self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mountpoint = before.split()[3:5]
        filesystem, source = after.split()[:2]
        yield root, _unescaped(mountpoint), filesystem, source


def _unescaped(text: str) -> str:
    """Undo the octal escapes of blanks and the like in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
