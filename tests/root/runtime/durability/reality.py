"""What there really is of one runtime: processes, cgroups, mounts, links, directories, images."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.runtime.cri.node import Place, wait_until

CGROUPS = Path("/sys/fs/cgroup")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Reality:
    """One look.

    Attributes:
        shims: pid by pod id.
        processes: pids in each container's cgroup, by container id.
        cgroups: ids of the pods and containers that have a cgroup in some hierarchy.
        pinned: ids of the pods whose directory has something mounted in it.
        links: names of the links in the node's network namespace.
        directories: names below ``sandboxes``, ``containers`` and ``volumes``.
        addresses: ids of the pods that hold an address.
        writable: ids of the containers that have a writable layer.
    """

    shims: dict[str, int]
    processes: dict[str, set[int]]
    cgroups: set[str]
    pinned: set[str]
    links: set[str]
    directories: dict[str, set[str]]
    addresses: set[str]
    writable: set[str]


def look(place: Place) -> Reality:
    """Look at everything that belongs to ``place``."""
    processes, cgroups = _cgroups(place)
    return Reality(
        shims=shims(place),
        processes=processes,
        cgroups=cgroups,
        pinned=_pinned(place),
        links=links(place),
        directories={
            "sandboxes": set(os.listdir(place.state / "sandboxes")),
            "containers": set(os.listdir(place.state / "containers")),
            "volumes": set(os.listdir(place.root / "volumes")),
        },
        addresses=rows(place.root / "network.db", "SELECT sandbox_id FROM network_addresses"),
        writable=rows(_image_database(place), "SELECT key FROM snapshots WHERE kind='container'"),
    )


def shims(place: Place) -> dict[str, int]:
    """Return the shims of ``place`` by their pod: those that log into its directories."""
    prefix = f"{place.state}/sandboxes/"
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            log = os.readlink(f"/proc/{name}/fd/2")
            title = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if log.startswith(prefix) and title.startswith(b"kubeletpy-shim "):
            found[log[len(prefix) :].split("/")[0]] = int(name)
    return found


def spawner(daemon: int) -> psutil.Process:
    """Return the spawner of the daemon with this process id."""

    found: list[psutil.Process] = []

    def named() -> bool:
        for child in psutil.Process(daemon).children():
            # The daemon's other children (a reader, a writer of layers) may end at any time.
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name().startswith("kubeletpy-spawn"):
                    found.append(child)
        return bool(found)

    # It gives itself the name, maybe only after the daemon says that it is ready.
    wait_until(named, "the spawner to have its name", 20)
    return found[0]


def _cgroups(place: Place) -> tuple[dict[str, set[int]], set[str]]:
    processes: dict[str, set[int]] = {}
    names: set[str] = set()
    roots = [CGROUPS] if (CGROUPS / "cgroup.procs").exists() else list(CGROUPS.iterdir())
    for root in roots:
        top = root / place.cgroup.lstrip("/")
        for directory, _, _ in os.walk(top):
            parts = Path(directory).relative_to(top).parts
            if not parts:
                continue
            name = _identity(parts[min(len(parts), 2) - 1])
            names.add(name)
            try:
                listed = (Path(directory) / "cgroup.procs").read_text().split()
            except OSError:
                continue
            if listed:
                processes.setdefault(name, set()).update(map(int, listed))
    return processes, names


def _identity(name: str) -> str:
    """Return the id of the pod or container whose cgroup has this name, as a unit's or its own."""
    for kind, prefix in ((".slice", "-pod"), (".scope", "-")):
        if name.endswith(kind):
            return name.removesuffix(kind).rpartition(prefix)[2]
    return name


def _pinned(place: Place) -> set[str]:
    prefix = f"{place.state}/sandboxes/"
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {p[len(prefix) :].split("/")[0] for p in points if p.startswith(prefix)}


def in_network(place: Place, function: Callable[[], _Result]) -> _Result:
    """Call ``function`` in the node's network namespace, in a thread of its own."""
    results: list[_Result] = []

    def call() -> None:
        with in_namespace(place.netns):
            results.append(function())

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return results[0]


def links(place: Place) -> set[str]:
    """Return the names of the links in the node's network namespace."""
    return in_network(place, lambda: {name for _, name in socket.if_nameindex()})


def rules(place: Place) -> list[str]:
    """Return the packet filter's rules and chains in the node's network namespace, sorted."""

    def save() -> list[str]:
        saved = [
            subprocess.run([program], capture_output=True, text=True, check=True).stdout
            for program in ("iptables-save", "ip6tables-save")
        ]
        # Comments have the time in them, and built-in chains come by being asked for.
        return sorted(line.split(" [")[0] for text in saved for line in text.splitlines()
                      if line.startswith(("-", ":KUBELETPY")))  # fmt: skip

    return in_network(place, save)


def rows(database: Path, query: str) -> set[str]:
    """Return the first column of a query."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {row[0] for row in connection.execute(query)}


def _image_database(place: Place) -> Path:
    [path] = place.root.rglob("images.db")
    return path


def damaged_blobs(place: Place) -> list[str]:
    """Return what is wrong with the content store: unfinished or wrong blobs."""
    bad = [str(path) for path in place.root.rglob("ingest/*")]
    for path in place.root.rglob("blobs/sha256/*"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            bad.append(str(path))
    return bad
