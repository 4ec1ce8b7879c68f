"""What runs first in the container: gets it ready, starts the tests, reaps what they leave.

    python3 -m tests.container.inside COMMAND [ARGUMENT...]

Standard library only. The checkout is at /src, read-only; the names of its files come by standard
input, each ended by NUL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SOURCE: Final = Path("/src")
CHECKOUT: Final = Path("/srv/checkout")
# A host has addresses besides that of loopback, and a way to others; this one's leads nowhere.
_NETWORK: Final = (
    "link set lo up",
    "link add outside type bridge",
    "link set outside addrgenmode none",
    "link set outside up",
    "address add 192.0.2.10/24 dev outside",
    "route add default via 192.0.2.1",
)


def main(command: Sequence[str]) -> int:
    """Return the command's exit status."""
    _copy(sys.stdin.buffer.read())
    if os.listdir("/sys/class/net") == ["lo"]:
        for words in _NETWORK:
            subprocess.run(["ip", *words.split()], check=True)
    _mount_unified()
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [CHECKOUT, CHECKOUT / "proto", *filter(None, given)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "HOME": "/root",
    }
    child = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL)
    return _reap_until(child.pid)


def _mount_unified(root: Path = Path("/sys/fs/cgroup")) -> None:
    """Mount cgroup v2 beside v1, as on a host with systemd; podman gives a container only v1."""
    if any(" - cgroup2 " in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        return
    unified = root / "unified"
    unified.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(unified)], check=True)


def _copy(names: bytes) -> None:
    for name in filter(None, names.decode().split("\0")):
        target = CHECKOUT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SOURCE / name, target)


def _reap_until(child: int) -> int:
    """Reap everything, as PID 1 has to, until ``child`` has ended; return its exit status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
