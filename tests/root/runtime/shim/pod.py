"""A pod of the process model alone: spawner, shim and containers, without daemon and images."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.oci.confinement import shared_confinement
from runtime.shim.client import ShimClient
from runtime.shim.messages import ExitRecord, Rootfs, SandboxSpec, StartRequest
from runtime.spawner.client import SandboxProcess, Spawner
from runtime.spawner.sandbox import destroy_sandbox_mounts
from tests.support.circumstances import patient

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh",
    "cat",
    "echo",
    "grep",
    "head",
    "id",
    "ls",
    "mkdir",
    "sleep",
    "true",
    "mount",
    "hostname",
    "tty",
    "wc",
)
CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
]
DEV_PTS = {
    "destination": "/dev/pts",
    "type": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
}
MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
    DEV_PTS,
    {"destination": "/sys", "type": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["nosuid", "noexec", "ro"]},
]


def process(*args: str, uid: int = 0, cwd: str = "/", **more: Any) -> dict[str, Any]:
    """Return an OCI ``process``."""
    sets = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    return {
        "args": list(args),
        "cwd": cwd,
        "env": ["PATH=/bin"],
        "user": {"uid": uid, "gid": uid},
        "capabilities": sets if uid == 0 else {"bounding": CAPABILITIES},
        **more,
    }


@dataclass
class Pod:
    """One sandbox in a directory of its own."""

    base: Path
    spawner: Spawner
    sandbox: SandboxProcess
    client: ShimClient
    exits: dict[str, asyncio.Future[ExitRecord]] = field(default_factory=dict)
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def create(cls, base: Path, **spec: Any) -> Pod:
        """Make the sandbox and a root file system with busybox."""
        layer = base / "snapshots/1/fs"
        (layer / "bin").mkdir(parents=True)
        if not BUSYBOX.exists():
            raise RuntimeError(f"{BUSYBOX} is missing: install Debian's busybox-static")
        shutil.copy(BUSYBOX, layer / "bin/busybox")
        for name in APPLETS:
            os.symlink("busybox", layer / "bin" / name)
        directory = base / "sandboxes/pod"
        directory.mkdir(parents=True, mode=0o700)
        spawner = Spawner()
        await spawner.start()
        sandbox = await spawner.spawn_sandbox(SandboxSpec("pod", directory, "pod-host", **spec))
        pod = cls(base, spawner, sandbox, None)  # type: ignore[arg-type]
        pod.client = await pod.connect()
        return pod

    @property
    def layer(self) -> Path:
        """The image's only layer."""
        return self.base / "snapshots/1/fs"

    async def connect(self) -> ShimClient:
        """Connect to the shim once more, as a daemon that was started again does."""
        return await ShimClient.connect(
            self.sandbox.socket, on_exit=self._on_exit, on_lost=self.lost.set
        )

    def request(
        self, name: str, proc: dict[str, Any], *, own_pid: bool = True, **more: Any
    ) -> StartRequest:
        """Write a bundle and return the request to start it."""
        config = {
            "ociVersion": "1.2.0",
            "process": proc,
            "root": {"path": "rootfs", "readonly": more.pop("readonly", False)},
            "mounts": MOUNTS + more.pop("mounts", []),
            "linux": {
                "namespaces": [
                    {"type": "pid"} if own_pid else self._pinned("pid"),
                    {"type": "mount"},
                    {"type": "cgroup"},
                    *(self._pinned(kind) for kind in self.sandbox.namespaces if kind != "pid"),
                ],
                "maskedPaths": ["/proc/keys", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys"],
                **more.pop("linux", {}),
            },
        }  # fmt: skip
        bundle = self.base / "containers" / name
        (bundle / "rootfs").mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(config))
        snapshots = self.base / "snapshots"
        for kind in ("upper", "work"):
            (snapshots / f"{kind}-{name}").mkdir()
        rootfs = Rootfs(("1/fs",), f"upper-{name}", f"work-{name}", str(snapshots))
        return StartRequest(
            name, bundle, rootfs, shared_confinement(config), log_path=bundle / "log", **more
        )

    async def run(self, name: str, proc: dict[str, Any], **more: Any) -> ExitRecord:
        """Start a container and wait for its end."""
        await self.client.start(self.request(name, proc, **more))
        return await self.exited(name)

    async def exited(self, name: str) -> ExitRecord:
        """Wait for the end of a container."""
        return await asyncio.wait_for(self._exit(name), patient(10))

    def log(self, name: str) -> list[tuple[str, str, str]]:
        """Return a container's log entries as (stream, tag, text)."""
        entries = (self.base / "containers" / name / "log").read_text().splitlines()
        return [tuple(line.split(" ", 3)[1:]) for line in entries]  # type: ignore[misc]

    def text(self, name: str) -> str:
        """Return what a container wrote to stdout."""
        return "\n".join(text for stream, _, text in self.log(name) if stream == "stdout")

    async def destroy(self) -> None:
        """End everything and unmount the pins."""
        await self.client.shutdown()
        destroy_sandbox_mounts(self.sandbox.socket.parent)
        await self.spawner.close()

    def _pinned(self, kind: str) -> dict[str, str]:
        return {"type": kind, "path": str(self.sandbox.namespaces[kind])}

    def _exit(self, name: str) -> asyncio.Future[ExitRecord]:
        loop = asyncio.get_running_loop()
        return self.exits.setdefault(name, loop.create_future())

    def _on_exit(self, record: ExitRecord) -> None:
        future = self._exit(record.container_id)
        if not future.done():
            future.set_result(record)
