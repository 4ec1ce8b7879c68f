"""``kubeletpy why`` against a kubelet's endpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from kubeletpy.api.status import PodStatus
from kubeletpy.cli import main
from kubeletpy.pods.actions import decide
from kubeletpy.server.app import Api
from kubeletpy.why.story import Known
from tests.unit.kubeletpy.pods.build import NOW, box, desired, observed, record


def known(name: str, namespace: str) -> list[Known]:
    if name != "web" or namespace not in ("", "default"):
        return []
    wanted = desired("a")
    seen = observed(box(), record("a", "exited", 1, exit_code=1, backoff=10.0))
    return [
        Known(desired=wanted, observed=seen, actions=decide(wanted, seen, NOW),
              status=PodStatus(phase="Running"))
    ]  # fmt: skip


@pytest.fixture
async def kubelet() -> AsyncIterator[str]:
    refused = desired("a").pod
    refused.metadata.name = "refused"
    refused.status = PodStatus(phase="Failed", reason="OutOfcpu", message="no room")
    api = Api({}, lambda: [desired("a").pod, refused], list, known)
    runner = web.AppRunner(api.application(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["why", *arguments])


@pytest.mark.parametrize("words", [("web",), ("default/web",), ("web", "-n", "default")])
async def test_a_story_is_printed(kubelet: str, words: tuple[str, ...]) -> None:
    result = await run(*words, "--kubelet", kubelet)
    assert result.exit_code == 0
    assert result.output.startswith("default/web: Running")
    assert "container a to be started again (CrashLoopBackOff" in result.output


async def test_a_story_as_json(kubelet: str) -> None:
    result = await run("web", "-o", "json", "--kubelet", kubelet)
    (story,) = json.loads(result.output)
    assert story["waits"][0]["reason"] == "CrashLoopBackOff"


async def test_a_pod_that_nobody_knows(kubelet: str) -> None:
    result = await run("other", "--kubelet", kubelet)
    assert result.exit_code == 1
    assert "knows no pod 'other'; it knows: default/refused, default/web" in result.output


async def test_a_pod_that_was_refused(kubelet: str) -> None:
    result = await run("refused", "--kubelet", kubelet)
    assert result.output == (
        "default/refused: Failed\n  OutOfcpu: no room\n\nIt waits for nothing.\n"
    )


async def test_no_kubelet() -> None:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    result = await run("web", "--kubelet", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert "no kubelet answers at" in result.output
    assert (await run("web", "--kubelet", "https://x")).exit_code == 1
