"""Runtimes to compare, each started in directories and a cgroup of its own, and asked by CRI v1."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.report import OURS, PEER
from kubeletpy_common.cgroups import detect

START_SECONDS = 30.0
CGROUPFS, SYSTEMD = "cgroupfs", "systemd"
_CONTAINERD = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true  # the machines of our CI lack CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    options = {{ SystemdCgroup = {systemd} }}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
"""
_CNI = """\
{{"cniVersion": "1.0.0", "name": "bench", "plugins": [
  {{"type": "bridge", "bridge": "bench1", "isGateway": true, "ipMasq": true,
    "ipam": {{"type": "host-local", "dataDir": "{directory}/ipam",
             "ranges": [[{{"subnet": "10.97.0.0/16"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}}
]}}
"""
_OURS = """\
log_level = "warning"
[cgroups]
driver = "{driver}"
[network]
bridge = "bench0"
subnet_v4 = "10.96.0.0/16"
"""
# The shell joins before it becomes the daemon: nothing that the daemon starts is outside.
JOIN = 'for file in $1; do echo $$ > "$file" || exit 1; done; shift; exec "$@"'


@dataclass(frozen=True)
class Peer:
    """A runtime that serves.

    Attributes:
        name: a column of the table.
        endpoint: its CRI socket.
        cgroup: holds the runtime and, with the driver cgroupfs, its pods below it.
        driver: of cgroups.
    """

    name: str
    endpoint: str
    cgroup: str
    driver: str

    @property
    def slice(self) -> str:
        """The slice of all pods, with the driver systemd."""
        return re.sub(r"\W", "", self.cgroup) + ".slice"

    def pod_cgroup(self, pod: str) -> str:
        """Return the cgroup parent for a pod."""
        if self.driver == SYSTEMD:
            return f"/{self.slice}/{self.slice.removesuffix('.slice')}-{pod}.slice"
        return f"{self.cgroup}/{pod}"


Runtime = Callable[[Path, str, str], AbstractContextManager[Peer]]
"""Starts a runtime: its directory, its cgroup, and the pause image for those that need one."""


def available(driver: str = CGROUPFS) -> dict[str, Runtime]:
    """Return the runtimes that are installed, ours first, with a driver of cgroups."""
    found: dict[str, Runtime] = {OURS: partial(ours, driver=driver)}
    programs = ("containerd", "containerd-shim-runc-v2", "runc")
    if all(map(shutil.which, programs)) and Path("/usr/lib/cni/bridge").exists():
        found[PEER] = partial(containerd, driver=driver)
    return found


@contextlib.contextmanager
def ours(directory: Path, cgroup: str, pause: str, driver: str) -> Iterator[Peer]:
    """Run our runtime."""
    directory.mkdir()
    path, config = directory / "cri.sock", directory / "runtime.toml"
    config.write_text(_OURS.format(driver=driver))
    command = [sys.executable, "-P", "-m", "runtime", "--config", str(config)]
    command += ["--address", f"unix://{path}"]
    command += ["--root", f"{directory}/root", "--state", f"{directory}/state"]
    with _running(command, directory / "log", path, cgroup):
        yield Peer(OURS, f"unix://{path}", cgroup, driver)


@contextlib.contextmanager
def containerd(directory: Path, cgroup: str, pause: str, driver: str) -> Iterator[Peer]:
    """Run containerd with runc and the bridge plugin, with Debian's defaults."""
    (directory / "cni").mkdir(parents=True)
    path = directory / "containerd.sock"
    config = directory / "config.toml"
    systemd = str(driver == SYSTEMD).lower()
    config.write_text(
        _CONTAINERD.format(directory=directory, socket=path, pause=pause, systemd=systemd)
    )
    (directory / "cni" / "bench.conflist").write_text(_CNI.format(directory=directory))
    with _running(["containerd", "--config", str(config)], directory / "log", path, cgroup):
        peer = Peer(PEER, f"unix://{path}", cgroup, driver)
        try:
            yield peer
        finally:
            if driver == SYSTEMD:
                # Slices of pods are a kubelet's to remove.
                subprocess.run(["systemctl", "stop", peer.slice], check=True)


@contextlib.contextmanager
def _running(command: list[str], log: Path, path: Path, cgroup: str) -> Iterator[None]:
    """Run a daemon until the block ends; it serves once its socket takes a connection."""
    home = detect().cgroup(f"{cgroup}/daemon")
    home.create()
    files = " ".join(map(str, home.procs_files()))
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", JOIN, "sh", files, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not serve; the end of its log:\n{tail(log)}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
