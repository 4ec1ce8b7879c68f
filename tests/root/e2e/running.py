"""A ``kubeletpy up`` that runs, in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.kubectl import find_kubectl

LIMIT_SECONDS = 150
STAYS = "The node runs until Ctrl-C"


@dataclass
class Directories:
    """Short paths, for a socket's path has 107 bytes at most."""

    data: Path
    run: Path


@dataclass
class Up:
    """A running ``up``; its own process group, as under a shell."""

    process: asyncio.subprocess.Process
    errors: list[str]

    async def until(self, text: str) -> None:
        """Read progress until a line contains ``text``."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT_SECONDS):
            while line := (await self.process.stderr.readline()).decode():
                self.errors.append(line)
                if text in line:
                    return
        raise AssertionError(f"no line with {text!r}:\n{''.join(self.errors)}")

    async def end(self) -> tuple[int, str]:
        """Wait for the end; return exit code and standard output."""
        async with asyncio.timeout(LIMIT_SECONDS):
            output, errors = await self.process.communicate()
        self.errors.append(errors.decode())
        assert self.process.returncode is not None
        return self.process.returncode, output.decode()

    @property
    def progress(self) -> str:
        return "".join(self.errors)


async def start(directories: Directories, *arguments: str) -> Up:
    """Start ``up`` in a new network namespace whose loopback is up."""
    command = [sys.executable, "-P", "-m", "kubeletpy", "up", *arguments]
    command += ["--data-dir", str(directories.data), "--run-dir", str(directories.run)]
    script = 'ip link set lo up && exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "sh", "-c", script, "sh", *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return Up(process, [])


async def _kubectl(up: Up, kubeconfig: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("nsenter", f"--net=/proc/{up.process.pid}/ns/net", find_kubectl()),
        *(f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent}/cache", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def kubectl(up: Up, kubeconfig: Path, *arguments: str) -> str:
    """Run kubectl where ``up`` runs and return what it prints."""
    process = await _kubectl(up, kubeconfig, *arguments)
    async with asyncio.timeout(LIMIT_SECONDS):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def kubectl_until(
    up: Up, kubeconfig: Path, which: str, field: str, check: Callable[[str], bool]
) -> str:
    """Wait until a field of an object is right, and return it.

    Debian 12's kubectl, 1.20, knows neither ``wait --for=jsonpath`` nor ``--for=create``.
    """
    template = f'jsonpath={{{field}}}{{"\\n"}}'
    process = await _kubectl(up, kubeconfig, "get", *which.split(), "--watch", "-o", template)
    seen = []
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            async for line in process.stdout:  # type: ignore[union-attr]
                seen.append(line.decode().strip())
                if check(seen[-1]):
                    return seen[-1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        _, errors = await process.communicate()
    raise AssertionError(f"{which}: {field} was {seen}; {errors.decode()}")


async def output_of(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(LIMIT_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()
