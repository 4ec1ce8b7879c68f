"""Our command line, and image tools that are not ours."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.runtime.cri.node import Node
from tests.support.circumstances import patient

CHECKOUT = Path(__file__).resolve().parents[4]
SECONDS = patient(60)
_SCRIPT = "import sys; from kubeletpy.cli import main; main(prog_name='kubeletpy')"


def command(node: Node, *arguments: str) -> list[str]:
    """Return the command line of ``kubeletpy image`` for a node."""
    endpoint = f"unix://{node.place.socket}"
    return [sys.executable, "-c", _SCRIPT, "image", "-r", endpoint, *arguments]


def run(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(node, *arguments), capture_output=True, text=True, cwd=CHECKOUT, timeout=SECONDS,
        check=False,
    )  # fmt: skip


def ok(node: Node, *arguments: str) -> str:
    done = run(node, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


# They keep caches and locks for all of the machine, which here is to stay as it was.
_ALONE = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'for d in /run /dev/shm /var/lib; do mount -t tmpfs tmpfs $d || exit; done; exec "$@"',
    "sh",
)


def tool(*arguments: str | Path, node: Node | None = None) -> str:
    """Run a program; with a node, where its registry can be reached."""

    def call() -> str:
        done = subprocess.run(
            [*_ALONE, *(str(each) for each in arguments)], capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    if node is None:
        return call()
    with in_namespace(node.place.netns):
        return call()


@contextmanager
def podman() -> Iterator[Callable[..., str]]:
    """Podman with a storage of its own; it wants short paths."""
    with tempfile.TemporaryDirectory(prefix="kp") as name:
        command = [
            *("podman", "--root", f"{name}/root", "--runroot", f"{name}/run"),
            *("--storage-driver", "vfs", "--events-backend", "none"),
            *("--cgroup-manager", "cgroupfs", "--tmpdir", f"{name}/tmp"),
        ]
        yield lambda *arguments: tool(*command, *arguments)
