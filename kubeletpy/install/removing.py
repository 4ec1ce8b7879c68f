"""The steps of `kubeletpy uninstall`. Each looks at what is there: any half may be gone.

A step that fails is told and the next one is taken: what can be removed is. The order: nothing
makes new pods, pods end, then what their ending needed, then files.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from kubeletpy.install import (
    changes,
    commands,
    csi_volumes,
    leftovers,
    machine,
    places,
    systemd,
    units,
)
from kubeletpy.install.changes import Memory
from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import OURS, NodeInstallation
from kubeletpy.up.progress import Progress

_SERVICES: Final = "system.slice"
_KUBELET: Final = places.DATA / "kubelet"


@dataclass(frozen=True)
class Plan:
    """What is to be removed.

    Attributes:
        one: what was installed; None: node.yaml is gone, and what is known of all is looked for.
        memory: what the installation remembered.
        keep_data: images, volumes and the API server's store stay.
        seconds: for each service to stop.
    """

    one: NodeInstallation | None
    memory: Memory
    keep_data: bool = False
    seconds: float = 60.0

    @property
    def own_runtime(self) -> bool:
        """Whether pods are in our runtime."""
        return self.one is None or self.one.own_runtime

    def lines(self) -> list[str]:
        """Return what will be removed, for people."""
        found = [f"the services {', '.join(present_units()) or '(none are there)'}"]
        if self.own_runtime and (places.DATA / "runtime").exists():
            found.append("all pods of this node, their networks and volumes of theirs")
        if not self.keep_data and places.DATA.exists():
            what = "images, volumes" + (
                ", THE CLUSTER with all of its objects" if places.APISERVER.exists() else ""
            )
            found.append(f"{places.DATA}: {what}")
        found.append(f"{places.ETC}, rules and routes of the proxy, sysctls that were set")
        return found


def present_units() -> list[str]:
    """Return units of ours that are there, in the order of starting."""
    return [name for name in units.ALL if units.unit_path(name).exists()]


def is_there() -> bool:
    """Whether anything of an installation is left."""
    known = (places.ETC, places.DATA, places.SYSCTL, places.MODULES,
             units.unit_path(units.TARGET))  # fmt: skip
    return any(path.exists() for path in known) or bool(present_units())


@dataclass
class Remover:
    """One removal.

    Attributes:
        plan: what is removed.
        progress: is told of each step.
        has_systemd: services are kept by systemd here.
        problems: what could not be done, for people.
        done: what was.
        notes: what was done otherwise than it should be, for people.
    """

    plan: Plan
    progress: Progress
    has_systemd: bool = True
    problems: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Take all steps."""
        steps: list[tuple[str, Callable[[], None]]] = [
            ("Stopping what makes pods", self._stop_makers),
            ("Ending pods", self._end_pods),
            ("Stopping the proxy and removing its rules", self._remove_proxy),
            ("Stopping all other services", self._stop_rest),
            ("Unmounting", self._unmount),
            ("Removing links, rules and cgroups", self._remove_network),
            ("Putting sysctls back", self._restore_sysctls),
            ("Removing files", self._remove_files),
            ("Removing accounts", self._remove_users),
        ]
        for title, step in steps:
            with self._told(title):
                step()

    @contextlib.contextmanager
    def _told(self, title: str) -> Iterator[None]:
        before = len(self.problems)
        try:
            with self.progress.step(title):
                yield
        except (InstallError, OSError, subprocess.SubprocessError) as error:
            self.problems.append(f"{title}: {error}")
        if len(self.problems) == before:
            self.done.append(title)

    def _stop(self, *names: str) -> None:
        if self.has_systemd:
            for name in names:
                systemd.stop(name, self.plan.seconds)

    def _stop_makers(self) -> None:
        machine.remove_links(places.Places())
        self._stop(units.CONTROLLERS, units.KUBELET)

    def _end_pods(self) -> None:
        """End pods by the runtime, started for it if need be; kill what it does not end."""
        own = self.plan.own_runtime
        if own and not (places.DATA / "runtime").exists():
            self._release_volumes()
            return
        if own and self.has_systemd and units.unit_path(units.RUNTIME).exists():
            with contextlib.suppress(InstallError):
                systemd.start(units.RUNTIME, self.plan.seconds)
        # Another runtime may have pods of others, too.
        ours = None if own else self._uids()
        if ours is not None and not ours:
            self._release_volumes()
            return
        endpoint = self.plan.one.runtime_endpoint if self.plan.one else OURS
        published, staged = csi_volumes.held(_KUBELET)
        if published or staged:
            # Drivers are pods, too, and end after those that use them.
            with contextlib.suppress(InstallError):
                users = {volume.uid for volume in published}
                asyncio.run(leftovers.end_pods(endpoint, self.plan.seconds, users))
            self._release_volumes()
        try:
            asyncio.run(leftovers.end_pods(endpoint, self.plan.seconds, ours))
        except InstallError as error:
            killed = leftovers.kill_cgroups([*leftovers.OF_PODS, f"{_SERVICES}/{units.RUNTIME}"])
            self.notes.append(f"{error}; {killed} processes of pods were killed")

    def _uids(self) -> set[str]:
        """Return the UIDs of the pods that the kubelet had."""
        try:
            return {path.name for path in (_KUBELET / "pods").iterdir()}
        except OSError:
            return set()

    def _release_volumes(self) -> None:
        """Have CSI drivers let go of their volumes."""
        outcome = asyncio.run(csi_volumes.release(_KUBELET, self.plan.seconds))
        if outcome.released:
            self.done.append(f"{len(outcome.released)} volumes were given back to their drivers")
        if outcome.forced:
            self.notes.append(
                "volumes that their drivers did not let go of: look there for attachments, devices "
                f"and connections that are left: {'; '.join(outcome.forced)}"
            )

    def _remove_proxy(self) -> None:
        self._stop(units.PROXY)
        if self.plan.one is None or (self.plan.one.runs_pods and self.plan.one.proxy):
            machine.run(*commands.proxy_cleanup(), seconds=self.plan.seconds)

    def _stop_rest(self) -> None:
        self._stop(units.RUNTIME, units.DNS, units.APISERVER, units.TARGET)

    def _unmount(self) -> None:
        for directory in (places.RUN, places.DATA):
            leftovers.unmount(directory)

    def _remove_network(self) -> None:
        if self.plan.own_runtime:
            leftovers.remove_links()
            self.problems += leftovers.remove_rules()
        if self.has_systemd:
            for name in ("kubepods.slice", "kubeletpy.slice"):
                systemd.stop(name, self.plan.seconds)
        self.problems += leftovers.remove_cgroups()

    def _restore_sysctls(self) -> None:
        before = self.plan.memory.sysctls
        there = machine.read_sysctls(before)
        wanted = {name: value for name, value in before.items() if name in there}
        self.problems += machine.set_sysctls(wanted)

    def _remove_files(self) -> None:
        """Remove files; those that the user changed, too: they are of no use any more."""
        for name in (units.TARGET, *units.ALL):
            units.unit_path(name).unlink(missing_ok=True)
        for path in (places.SYSCTL, places.MODULES):
            path.unlink(missing_ok=True)
        self._remove_pod_logs()
        if self._wrote_logind():
            places.LOGIND.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                places.LOGIND.parent.rmdir()
        if self.has_systemd:
            systemd.reload()
        if not self.plan.keep_data:
            leftovers.remove_tree(places.DATA)
        leftovers.remove_tree(places.RUN)
        # The last, for it knows what else there is.
        leftovers.remove_tree(places.ETC)

    def _wrote_logind(self) -> bool:
        with contextlib.suppress(OSError):
            return "InhibitDelayMaxSec" in places.LOGIND.read_text()
        return False

    def _remove_pod_logs(self) -> None:
        """Remove logs of this node's pods; the directories, if they were not there before."""
        pods = self._uids()
        for directory in (places.CONTAINER_LOGS, places.POD_LOGS):
            if str(directory) in self.plan.memory.directories:
                leftovers.remove_tree(directory)
                continue
            for path in directory.glob("*") if directory.is_dir() else ():
                if path.is_symlink() and not path.exists():
                    path.unlink()
                elif path.name.rpartition("_")[2] in pods and path.is_dir():
                    leftovers.remove_tree(path)

    def _remove_users(self) -> None:
        # Its name is ours; without a memory it is taken for ours, too.
        for name in self.plan.memory.users or ([units.USER] if self.plan.one is None else []):
            machine.remove_user(name)


def read_plan(one: NodeInstallation | None, *, keep_data: bool, seconds: float) -> Plan:
    """Return what is to be removed of this machine."""
    try:
        memory = changes.read_memory(places.STATE)
    except InstallError:
        memory = Memory()
    return Plan(one, memory, keep_data, seconds)
