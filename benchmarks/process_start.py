"""From request to execve: our process model, ``runc run``, and the floor, in turn, in one run.

python -m benchmarks.process_start [--rounds N] [-o json]

Each round makes a container with new mount, UTS, IPC, PID and network namespaces on an overlay root
with /proc, /dev and /sys. ``execve`` is the time until the program runs, ``exit`` until its end is
known: ``runc run`` of a program that ends at once can only be timed to its exit. The floor is a
bare fork, unshare and exec in a small interpreter, without any file system.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kubeletpy_common.linux import mounts, namespaces
from runtime.oci.confinement import shared_confinement
from runtime.shim.client import ShimClient
from runtime.shim.messages import ExitRecord, Rootfs, SandboxSpec, StartRequest
from runtime.spawner.client import Spawner
from runtime.spawner.sandbox import destroy_sandbox_mounts

BUSYBOX = Path("/bin/busybox")
CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"]


def oci_config(pins: dict[str, str], root: str, readonly: bool = False) -> dict[str, Any]:
    """Return the OCI configuration that both runtimes run."""
    kinds = ("pid", "mount", "network", "ipc", "uts")
    return {
        "ociVersion": "1.0.2",
        "hostname": "bench",
        "process": {
            "args": ["/bin/true"],
            "cwd": "/",
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": readonly},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": kind, **({"path": pins[kind]} if kind in pins else {})} for kind in kinds
            ],
            "maskedPaths": ["/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


class Ours:
    """A new sandbox and a container in it, each round."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._spawner = Spawner()

    async def run(self, number: int) -> dict[str, float]:
        """Time one round, in milliseconds."""
        base, snapshots = self._base, self._base / "snapshots"
        directory, bundle = base / f"sandbox-{number}", base / f"container-{number}"
        for path in (
            directory,
            bundle / "rootfs",
            snapshots / f"u{number}",
            snapshots / f"w{number}",
        ):
            path.mkdir(parents=True)
        await self._spawner.start()
        ended: asyncio.Future[ExitRecord] = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        sandbox = await self._spawner.spawn_sandbox(SandboxSpec(str(number), directory, "bench"))
        client = await ShimClient.connect(
            sandbox.socket, on_exit=ended.set_result, on_lost=lambda: None
        )
        pins = {kind: str(path) for kind, path in sandbox.namespaces.items()}
        config = oci_config(pins, "rootfs")
        (bundle / "config.json").write_text(json.dumps(config))
        rootfs = Rootfs(("1/fs",), f"u{number}", f"w{number}", str(snapshots))
        between = time.perf_counter()
        await client.start(StartRequest(str(number), bundle, rootfs, shared_confinement(config)))
        executed = time.perf_counter()
        await asyncio.wait_for(ended, 10)
        exited = time.perf_counter()
        await client.shutdown()
        destroy_sandbox_mounts(directory)
        return {
            "sandbox": (between - start) * 1e3,
            "execve": (executed - start) * 1e3,
            "exit": (exited - start) * 1e3,
        }

    async def close(self) -> None:
        """End the spawner."""
        await self._spawner.close()


async def run_runc(base: Path, number: int) -> dict[str, float]:
    """Time one ``runc run`` on a fresh overlay, in milliseconds."""
    bundle = base / f"runc-{number}"
    root = bundle / "rootfs"
    for path in (root, bundle / "u", bundle / "w"):
        path.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(oci_config({}, "rootfs")))
    start = time.perf_counter()
    layers = f"lowerdir={base}/snapshots/1/fs,upperdir={bundle}/u,workdir={bundle}/w"
    mounts.mount("overlay", root, "overlay", 0, layers)
    try:
        command = ["runc", "--root", str(base / "runc"), "run", f"bench-{os.getpid()}-{number}"]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=bundle, stdin=subprocess.DEVNULL
        )
        status = await asyncio.wait_for(process.wait(), 30)
        exited = time.perf_counter()
    finally:
        mounts.umount(root, mounts.MNT_DETACH)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed with status {status}; see its message above")
    return {"exit": (exited - start) * 1e3}


async def run_floor() -> dict[str, float]:
    """Time a bare fork, unshare and exec, in milliseconds."""
    code = (
        "import os,sys,time;sys.path[:0]=sys.argv[1:];"
        "from kubeletpy_common.linux import namespaces as n;r,w=os.pipe();t=time.perf_counter();"
        f"p=os.fork();p or (n.unshare({ALL:#x}),os.execv('/bin/busybox',['true']));os.close(w);"
        "os.read(r,1);e=time.perf_counter();os.waitpid(p,0);print((e-t)*1e3)"
    )
    here = str(Path(__file__).parents[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", code, here, stdout=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return {"execve": float(output)}


ALL = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWNET
)


async def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Run all three in turn and return medians and 90th percentiles in milliseconds."""
    base = Path(tempfile.mkdtemp(prefix="kubeletpy-bench-"))
    layer = base / "snapshots/1/fs/bin"
    layer.mkdir(parents=True)
    shutil.copy(BUSYBOX, layer / "busybox")
    (layer / "true").symlink_to("busybox")
    for name in ("proc", "dev", "sys"):
        (base / "snapshots/1/fs" / name).mkdir()
    ours = Ours(base)
    runners: dict[str, Callable[[int], Awaitable[dict[str, float]]]] = {
        "ours": ours.run,
        "floor": lambda number: run_floor(),
    }
    if shutil.which("runc"):
        runners["runc"] = lambda number: run_runc(base, number)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in runners}
    try:
        for number in range(rounds + 2):
            for name, runner in runners.items():
                figures = await runner(number)
                # The first rounds warm caches up.
                if number >= 2:
                    samples[name].append(figures)
    finally:
        await ours.close()
        shutil.rmtree(base)
    table: dict[str, dict[str, float]] = {}
    for name, rows in samples.items():
        for figure in rows[0]:
            values = sorted(row[figure] for row in rows)
            table[f"{name} {figure}"] = {
                "median_ms": round(statistics.median(values), 2),
                "p90_ms": round(values[int(len(values) * 0.9)], 2),
            }
    if "runc exit" in table:
        ratio = table["ours exit"]["median_ms"] / table["runc exit"]["median_ms"]
        table["ratio ours/runc exit"] = {"median": round(ratio, 3)}
    return table


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=30, help="counted rounds (default: 30)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    if os.geteuid() != 0 or not BUSYBOX.exists():
        raise SystemExit("needs root and Debian's busybox-static")
    table = asyncio.run(measure(options.rounds))
    if options.output == "json":
        print(json.dumps(table, indent=2))
        return
    for name, figures in table.items():
        print(f"{name:24}", "  ".join(f"{key} {value:8.2f}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
