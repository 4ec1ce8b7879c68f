"""libvirt for a test: in namespaces of its own, so that nothing of it outlives them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_READY_SECONDS: Final = 60.0
_URI: Final = "qemu:///system"
# Nothing is asked of the machine's cgroups; QEMU runs as who owns the disks.
_SETTINGS: Final = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
"""
_START: Final = """\
ip link set lo up
mount -t tmpfs tmpfs /run
for place in lib log etc; do mkdir -p "$1/$place"; done
cp -r /etc/libvirt/. "$1/etc"
cat "$1/qemu.conf" >> "$1/etc/qemu.conf"
mount --bind "$1/etc" /etc/libvirt
mount --bind "$1/lib" /var/lib/libvirt
mount --bind "$1/log" /var/log/libvirt
virtlogd --daemon
# The shell stays, as the first process: it reaps what daemons leave, which libvirt waits for.
libvirtd &
wait
"""


@dataclass(frozen=True)
class Libvirt:
    """A libvirt that serves.

    Attributes:
        process: the id of a process that is in all of its namespaces.
    """

    process: int

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command where libvirt itself is."""
        return self._entering(command, "--net", "--mount", "--pid")

    def beside(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command where its machines can be reached."""
        return self._entering(command, "--net")

    def _entering(self, command: Sequence[str], *spaces: str) -> list[str]:
        return ["nsenter", f"--target={self.process}", *spaces, *command]


@contextmanager
def libvirt(directory: Path) -> Iterator[Libvirt]:
    """Run libvirt within the block.

    Args:
        directory: of its configuration, its disks and its logs.

    Raises:
        AssertionError: it does not serve in time.
    """
    directory.mkdir()
    (directory / "qemu.conf").write_text(_SETTINGS)
    # All that runs in the namespace of processes dies with its first one, daemons too.
    spaces = ["unshare", "--net", "--mount", "--propagation", "private"]
    spaces += ["--pid", "--fork", "--kill-child", "--mount-proc"]
    with open(directory / "libvirtd.out", "wb") as output:
        process = subprocess.Popen(
            [*spaces, "sh", "-euc", _START, "sh", str(directory)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        served = _await(process, directory)
        yield served
    finally:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], directory: Path) -> Libvirt:
    deadline = time.monotonic() + _READY_SECONDS
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline and process.poll() is None:
        if first := children.read_text().split():
            found = Libvirt(int(first[0]))
            # One that hangs is ended: virsh itself has no deadline.
            ask = ["timeout", f"{_READY_SECONDS:.0f}", "virsh", "--connect", _URI, "version"]
            asked = subprocess.run(
                found.inside(ask), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            if asked.returncode == 0:
                return found
        time.sleep(0.2)
    log = (directory / "libvirtd.out").read_text(errors="replace")
    raise AssertionError(f"libvirt does not serve:\n{log[-3000:]}")
