"""The steps of an installation. Each can be done again; what is as it should be is left alone.

Nothing is undone when a step fails: the next run goes on from there, and `kubeletpy uninstall`
removes what there is, however far it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kubeletpy.install import (
    changes,
    configs,
    installation,
    machine,
    places,
    rights,
    server,
    systemd,
    units,
)
from kubeletpy.install.changes import Action, Change, Memory
from kubeletpy.install.errors import InstallError
from kubeletpy.install.files import await_file
from kubeletpy.install.installation import NodeInstallation
from kubeletpy.install.places import Places
from kubeletpy.install.rendered import Rendered
from kubeletpy.up.progress import Progress

_INPUTS: Final[Mapping[str, tuple[Path, ...]]] = {
    units.RUNTIME: (places.RUNTIME,),
    units.KUBELET: (places.KUBELET, places.AUTHORITY),
    units.PROXY: (places.PROXY,),
    units.DNS: (places.DNS_KUBECONFIG,),
}
"""Files besides its unit that a service reads at its start."""
_GIVEN: Final = (
    places.BOOTSTRAP, places.KUBECONFIG, places.RENEWED_KUBECONFIG, places.AUTHORITY,
)  # fmt: skip
"""Written when joining, and by the kubelet itself: neither compared nor the user's to keep."""


@dataclass
class Outcome:
    """What an installation did.

    Attributes:
        changes: of files.
        services: what became of each: ``started``, ``restarted``, ``runs on``, ``stopped``.
        notes: for people.
        join_command: what to run on a machine that shall join; "": none was made.
    """

    changes: list[Change] = field(default_factory=list)
    services: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    join_command: str = ""


@dataclass(frozen=True)
class Wishes:
    """How an installation goes.

    Attributes:
        start: services are started; otherwise only files are written.
        overwrite: files that were changed here are written all the same.
        seconds: for each service, and for the node, to get ready.
    """

    start: bool = True
    overwrite: bool = False
    seconds: float = 300.0


def plan(
    one: NodeInstallation, facts: configs.MachineFacts, memory: Memory, at: Places, *,
    overwrite: bool = False,
) -> list[Change]:  # fmt: skip
    """Return what is done with each file, node.yaml first.

    Raises:
        InstallError: one cannot be read.
    """
    chosen = Rendered(places.NODE, installation.text_of(one), 0o600)
    first = changes.compare([chosen], memory, at, overwrite=True)
    files = [*configs.rendered(one, facts), *units.rendered(one)]
    return [*first, *changes.compare(files, memory, at, overwrite=overwrite)]


def stale(wanted: Iterable[Change], memory: Memory, at: Places) -> list[Path]:
    """Return files of an earlier installation that this one does not have, and that are ours."""
    kept = {str(change.file.path) for change in wanted} | {str(path) for path in _GIVEN}
    found = []
    for name, known in memory.files.items():
        path = Path(name)
        if name in kept or not at.of(path).is_file():
            continue
        if changes.hash_of(at.of(path).read_text(errors="surrogateescape")) in known:
            found.append(path)
    return found


class Installer:
    """One run.

    Args:
        one: what is to be installed.
        at: where.
        wishes: how.
        progress: is told of each step.
    """

    def __init__(
        self, one: NodeInstallation, at: Places, wishes: Wishes, progress: Progress
    ) -> None:
        self._one = one
        self._at = at
        self._wishes = wishes
        self._progress = progress
        self._state = at.of(places.STATE)
        self._memory = changes.read_memory(self._state)
        self.outcome = Outcome()

    def write(self, facts: configs.MachineFacts, joined: Iterable[Rendered]) -> None:
        """Write directories, files and links.

        Raises:
            InstallError: something cannot be written.
        """
        one, at, memory = self._one, self._at, self._memory
        absent = [str(path) for path in (places.POD_LOGS, places.CONTAINER_LOGS)
                  if not at.of(path).exists()]  # fmt: skip
        machine.make_directories(one, at)
        if not self._state.exists():
            memory.directories = absent
            changes.write_memory(self._state, memory)
        for file in joined:
            changes.carry_out([Change(file, None, Action.WRITE)], memory, at, self._state)
        found = plan(one, facts, memory, at, overwrite=self._wishes.overwrite)
        self.outcome.changes = found
        gone = stale(found, memory, at)
        changes.carry_out(found, memory, at, self._state)
        if at.is_machine and self._wishes.start:
            self._stop_unwanted()
        for path in gone:
            at.of(path).unlink(missing_ok=True)
            memory.files.pop(str(path), None)
            self.outcome.notes.append(f"{path} is not needed any more and was removed")
        machine.make_links(one, at)
        changes.write_memory(self._state, memory)

    def _stop_unwanted(self) -> None:
        for name in reversed(units.ALL):
            if name in self._memory.services and name not in units.names(self._one):
                with self._progress.step(f"Stopping {name}"):
                    systemd.stop(name, self._wishes.seconds)
                del self._memory.services[name]
                self.outcome.services[name] = "stopped"

    def prepare_machine(self) -> None:
        """Make the account, load modules, set sysctls.

        Raises:
            InstallError: the account cannot be made, or systemd does not read its units.
        """
        one, memory = self._one, self._memory
        if one.runs_pods:
            self.outcome.notes += machine.load_modules(configs.modules(one))
            wanted = configs.sysctls(one)
            for name, value in machine.read_sysctls([*wanted, *machine.ALSO_SET]).items():
                memory.sysctls.setdefault(name, value)
            changes.write_memory(self._state, memory)
            self.outcome.notes += machine.set_sysctls(wanted)
        if one.server is not None:
            if machine.ensure_user(units.USER):
                memory.users = [units.USER]
                changes.write_memory(self._state, memory)
            machine.own(places.APISERVER, units.USER)
        systemd.reload()

    def start(self) -> None:
        """Start what does not run, and anew what changed, in order; wait until all is ready.

        Raises:
            InstallError: something does not get ready.
        """
        one, wishes = self._one, self._wishes
        names = units.names(one)
        for wave in units.WAVES:
            if wave == (units.PROXY,) and units.PROXY in names:
                # The proxy has the node's credentials, and a new node has to get them first.
                with self._progress.step("The cluster signs this node's certificate"):
                    self._await_credentials()
                if one.server is None:
                    self._look_at_rights()
            self._ensure([name for name in wave if name in names])
            if wave == (units.APISERVER,) and one.server is not None:
                server.publish_credentials()
                with self._progress.step("The cluster's own objects"):
                    asyncio.run(server.furnish(one, wishes.seconds))
        systemd.call("start", "--no-block", "--", units.TARGET)
        if one.runs_pods:
            self._await_node()

    def _await_credentials(self) -> None:
        """Wait for the kubelet's kubeconfig, and for the certificate that it names."""
        await_file(places.KUBECONFIG, self._wishes.seconds)
        if self._one.renewed or not self._one.kubeconfig:
            await_file(places.CERTIFICATE, self._wishes.seconds)

    def _look_at_rights(self) -> None:
        """Ask what the proxy may read with these credentials.

        Raises:
            InstallError: less than it needs.
        """
        with self._progress.step("The cluster lets the proxy read Services"):
            found = asyncio.run(rights.asked(self._one.credentials, self._wishes.seconds))
            error, note = rights.judge(found)
            if error:
                raise InstallError(error)
        self.outcome.notes += [note] if note else []

    def _ensure(self, names: list[str]) -> None:
        """Have services run with what is on the disk now; they are started beside each other.

        Raises:
            InstallError: one does not get ready; the others are remembered as started.
        """
        digests = {name: digest(name, self._one, self._at) for name in names}
        active = {name: systemd.is_active(name) for name in names}
        wanted = []
        for name in names:
            if active[name] and self._memory.services.get(name) == digests[name]:
                self.outcome.services[name] = "runs on"
            else:
                wanted.append(name)
        if not wanted:
            return
        word = "Restarting" if all(active[name] for name in wanted) else "Starting"
        problems = []
        with (
            self._progress.step(f"{word} {', '.join(name.partition('.')[0] for name in wanted)}"),
            ThreadPoolExecutor(len(wanted)) as pool,
        ):
            seconds = self._wishes.seconds
            waits = {
                name: pool.submit(systemd.start, name, seconds, restart=active[name])
                for name in wanted
            }
            for name, wait in waits.items():
                try:
                    wait.result()
                except InstallError as error:
                    problems.append(str(error))
                    continue
                self._memory.services[name] = digests[name]
                changes.write_memory(self._state, self._memory)
                self.outcome.services[name] = "restarted" if active[name] else "started"
            if problems:
                raise InstallError("\n".join(problems))

    def _await_node(self) -> None:
        one = self._one
        with self._progress.step(f"Node {one.node_name} is Ready"):
            if one.server is None:
                self._await_credentials()
            path = places.ADMIN if one.server else one.credentials
            why = asyncio.run(server.await_node(path, one.node_name, self._wishes.seconds))
            if why:
                raise InstallError(
                    f"all services run, but node {one.node_name} was not Ready within "
                    f"{self._wishes.seconds:.0f} s: {why}; see `kubeletpy install status` and "
                    "journalctl -u kubeletpy-kubelet"
                )


def digest(name: str, one: NodeInstallation, at: Places) -> str:
    """Return the hash of what a service is started with: unit, files, and the program's release."""
    found = hashlib.sha256()
    for path in (units.unit_path(name), *_INPUTS.get(name, ())):
        with contextlib.suppress(FileNotFoundError):
            found.update(at.of(path).read_bytes())
        found.update(b"\0")
    found.update(os.path.realpath(one.program[0]).encode())
    return found.hexdigest()


@contextlib.contextmanager
def alone(at: Places) -> Iterator[None]:
    """Hold the lock of installations.

    Raises:
        InstallError: another one is under way.
    """
    directory = at.of(places.RUN)
    try:
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        path = directory / "install.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InstallError(f"cannot use {directory}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InstallError(
                "another `kubeletpy install` or `kubeletpy uninstall` is under way; wait for it"
            ) from None
        yield
    finally:
        os.close(descriptor)
