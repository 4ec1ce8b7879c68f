"""Each process of a cluster is killed under a rolling update, and no request fails."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml

from tests.root.e2e.running import LIMIT_SECONDS, Directories, Up, kubectl, start

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
GRACE = 10
"""Seconds that a pod goes on answering after its deletion: longer than any process takes to come
back, so that whoever sends requests to it knows in time."""
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "tour" / "01-deployment.yaml"
KILLED = ("controllers", "apiserver", "kubelet", "runtime", "proxy", "dns")


class Load:
    """Requests to one address, from the network namespace of ``up``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def end(self) -> tuple[int, dict[str, int], list[str]]:
        """Return how many were answered, what became of others, and when."""
        self._process.terminate()
        async with asyncio.timeout(30):
            output, _ = await self._process.communicate()
        found = json.loads(output.decode().splitlines()[-1])
        return found["answered"], found["failures"], found["when"]


@contextlib.asynccontextmanager
async def load(up: Up, host: str, port: int) -> AsyncIterator[Load]:
    process = await asyncio.create_subprocess_exec(
        *("nsenter", f"--net=/proc/{up.process.pid}/ns/net"),
        *(sys.executable, "-m", "tests.support.load", host, str(port), "6"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begun\n"
        yield Load(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def patient(text: str) -> str:
    """Return the example with a grace that outlasts the start of any process."""
    documents = list(yaml.safe_load_all(text))
    spec = documents[0]["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 2 * GRACE
    spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] = ["sleep", str(GRACE)]
    return yaml.safe_dump_all(documents)


async def until_kubectl(
    up: Up, kubeconfig: Path, fits: Callable[[str], object], *arguments: str
) -> None:
    """Run kubectl until it succeeds and what it prints fits: the API server may be away."""
    said = ""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                try:
                    said = await kubectl(up, kubeconfig, *arguments)
                except AssertionError as error:
                    said = str(error)
                else:
                    if fits(said):
                        return
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {said}") from None


def _has_words(count: int, text: str) -> bool:
    return len(text.split()) >= count


def process_of(directories: Directories, name: str) -> int:
    """Return the id of a daemon of ``up``."""
    (path,) = directories.run.glob(f"*-{name}.pid")
    return int(path.read_text().split()[0])


async def test_each_process_is_killed_under_a_rolling_update(directories: Directories) -> None:
    up = await start(directories)
    run = functools.partial(kubectl, up, directories.run / "kubeconfig")
    until = functools.partial(until_kubectl, up, directories.run / "kubeconfig")
    try:
        await up.until("export KUBECONFIG=")
        manifest = directories.data / "patient.yaml"
        manifest.write_text(patient(EXAMPLE.read_text()))
        await run("apply", "-f", str(manifest))
        await run("rollout", "status", "deployment/web", "--timeout=60s")
        address = await run("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
        killed: list[str] = []
        async with load(up, address, 80) as running:
            for number, name in enumerate(KILLED):
                await run("set", "env", "deployment/web", f"GREETING={number}")
                # A new ReplicaSet is on its way: the update is under way.
                await until(
                    functools.partial(_has_words, number + 2),
                    "get", "replicasets", "-l", "app=web", "-o", "name",
                )  # fmt: skip
                before = process_of(directories, name)
                os.kill(before, signal.SIGKILL)
                killed.append(f"{time.strftime('%H:%M:%S')} {name}")
                await up.until(f"the {name} ended by itself")
                await until(
                    lambda text: "successfully rolled out" in text,
                    "rollout", "status", "deployment/web", "--timeout=60s",
                )  # fmt: skip
                assert process_of(directories, name) != before
            answered, failures, when = await running.end()
        assert answered > 500
        assert not failures, (killed, when)
        pods = json.loads(await run("get", "pods", "-l", "app=web", "-o", "json"))["items"]
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        assert len(alive) == 3
    finally:
        up.process.send_signal(signal.SIGINT)
        code, _ = await up.end()
    assert code == 0, up.progress
    assert not directories.run.exists()
