"""Any history of edits, deletions, crashes and lost answers ends with what was declared last."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import DEPLOYMENTS, PODS, REPLICA_SETS, Object
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.cluster.deployment.test_deployment import (
    NAMES,
    change,
    complete,
    deployment,
    rolling,
    template_of,
)
from tests.support.cluster import Cluster, cluster
from tests.support.histories import Process, forgiving, histories
from tests.support.hollow import HollowNodes, ended

Word = tuple[str, int]
_WORDS = st.tuples(
    st.sampled_from(("scale", "image", "pause", "bounds", "recreate", "pod", "set", "fail",
                     "orphan", "resize", "crash", "lose", "wait")),
    st.integers(0, 6),
)  # fmt: skip


class History:
    """One history, and what it declared last."""

    def __init__(self, server: Cluster, nodes: HollowNodes, process: Process) -> None:
        self._server = server
        self._nodes = nodes
        self._process = process
        self.replicas = 3
        self.image = "1"

    async def word(self, word: str, number: int) -> None:
        """Let something happen."""
        server = self._server
        if word == "scale":
            self.replicas = number
            await change(server, replicas=number)
        elif word == "image":
            self.image = str(number % 3)
            await change(server, template=template_of(self.image))
        elif word == "pause":
            await change(server, paused=number % 2 == 0)
        elif word == "bounds":
            await change(server, strategy=rolling(number, 0 if number else 1))
        elif word == "recreate":
            await change(server, strategy={"type": "Recreate", "rollingUpdate": None})
        elif word == "crash":
            await self._process.crash()
        elif word == "lose":
            self._process.lose(number)
        elif word == "wait":
            await asyncio.sleep(number / 50)
        else:
            await self._spoil(word, number)

    async def _spoil(self, word: str, number: int) -> None:
        """Change what is the controllers' own."""
        client = self._server.client
        resource = REPLICA_SETS if word in ("set", "resize") else PODS
        found = await self._server.listed(resource)
        if not found:
            return
        one = found[number % len(found)]
        path = resource.path_of(one)
        if word in ("pod", "set"):
            await forgiving(lambda: client.delete(path))
        elif word == "fail":
            await forgiving(lambda: self._nodes.set_status(one, ended(one, 1)))
        elif word == "orphan":
            alone = {"metadata": {"ownerReferences": None}}
            await forgiving(lambda: client.patch(path, alone, kind=MERGE_PATCH))
        else:
            size = {"spec": {"replicas": number}}
            await forgiving(lambda: client.patch(path, size, kind=MERGE_PATCH))


@histories
@given(words=st.lists(_WORDS, min_size=4, max_size=16))
def test_any_history(words: list[Word]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_happen(Path(directory), words))


async def _happen(directory: Path, words: list[Word]) -> None:
    async with cluster(directory) as server:
        process = Process(server, *NAMES)
        history = History(server, await server.hollow("one"), process)
        await process.start()
        await server.create(DEPLOYMENTS, deployment(history.replicas, history.image))
        for word, number in words:
            await history.word(word, number)
        await change(server, paused=False)
        value = await _settled(server, history)
        sets = await server.listed(REPLICA_SETS)
        ours = {one["metadata"]["uid"] for one in sets}
        assert {_owner(one) for one in sets} == {value["metadata"]["uid"]}
        active = [pod for pod in await server.listed(PODS) if pod["status"]["phase"] != "Failed"]
        assert {_owner(pod) for pod in active} <= ours
        assert len(active) == history.replicas


async def _settled(server: Cluster, history: History) -> Object:
    """Wait for the end; pods that failed stay, as Kubernetes leaves them."""

    def running(found: list[Object]) -> bool:
        there = [pod for pod in found if pod["status"]["phase"] != "Failed"]
        images = {pod["spec"]["containers"][0]["image"] for pod in there}
        going = any("deletionTimestamp" in pod["metadata"] for pod in found)
        return (
            len(there) == history.replicas and not going
            and images <= {f"example.test/app:{history.image}"}
        )  # fmt: skip

    await server.until(PODS, running)
    for pod in await server.listed(PODS):
        if pod["status"]["phase"] == "Failed":
            await forgiving(partial(server.client.delete, PODS.path_of(pod)))
    return await complete(server, history.image, history.replicas)


def _owner(value: Object) -> str | None:
    reference = controller_of(value)
    return reference["uid"] if reference is not None else None
