"""Runtimes to compare, each started in directories of its own and asked by CRI v1."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
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
[network]
bridge = "bench0"
subnet_v4 = "10.96.0.0/16"
"""


@dataclass(frozen=True)
class Peer:
    """A runtime that serves."""

    name: str
    endpoint: str


@contextlib.contextmanager
def ours(directory: Path) -> Iterator[Peer]:
    """Run our runtime."""
    directory.mkdir()
    socket, config = directory / "cri.sock", directory / "runtime.toml"
    config.write_text(_OURS)
    command = [sys.executable, "-P", "-m", "runtime", "--config", str(config)]
    command += ["--address", f"unix://{socket}"]
    command += ["--root", f"{directory}/root", "--state", f"{directory}/state"]
    with _running(command, directory / "log", socket):
        yield Peer("kubeletpy", f"unix://{socket}")


@contextlib.contextmanager
def containerd(directory: Path, pause: str) -> Iterator[Peer | None]:
    """Run containerd with runc and the bridge plugin, with Debian's defaults; None if missing."""
    programs = ("containerd", "containerd-shim-runc-v2", "runc")
    if not all(map(shutil.which, programs)) or not Path("/usr/lib/cni/bridge").exists():
        yield None
        return
    (directory / "cni").mkdir(parents=True)
    socket = directory / "containerd.sock"
    config = directory / "config.toml"
    config.write_text(_CONTAINERD.format(directory=directory, socket=socket, pause=pause))
    (directory / "cni" / "bench.conflist").write_text(_CNI.format(directory=directory))
    with _running(["containerd", "--config", str(config)], directory / "log", socket):
        yield Peer("containerd", f"unix://{socket}")


@contextlib.contextmanager
def _running(command: list[str], log: Path, socket: Path) -> Iterator[None]:
    """Run a daemon until the block ends; its socket tells that it serves."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not serve; the end of its log:\n{_tail(log)}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
