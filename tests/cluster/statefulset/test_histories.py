"""Whatever happens to a StatefulSet: in the end it is as declared, and no ordinal is ever twice."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from controlplane.controllers.statefulset import controller
from controlplane.engine.resources import CLAIMS, PODS, REVISIONS, STATEFUL_SETS, Object
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.cluster.statefulset.sets import (
    CLAIM,
    NAME,
    Watcher,
    change,
    done,
    image,
    names,
    owned,
    web,
)
from tests.support.cluster import Cluster, cluster
from tests.support.histories import Process, forgiving, histories
from tests.support.hollow import HollowNodes, ended, running

_MOST = 5
Word = tuple[str, int]
_WORDS = st.tuples(
    st.sampled_from(("scale", "image", "partition", "delete", "kill", "fail", "unready", "release",
                     "crash", "lose", "wait")),
    st.integers(0, _MOST - 1),
)  # fmt: skip


class History:
    """One history, and what it declared last."""

    def __init__(self, server: Cluster, nodes: HollowNodes, process: Process) -> None:
        self._server = server
        self._nodes = nodes
        self._process = process
        self.replicas = 3
        self.image = "example.test/app:0"

    async def word(self, word: str, number: int) -> None:
        """Let something happen."""
        name = f"web-{number}"
        path = PODS.path("default", name)
        client = self._server.client
        if word == "scale":
            self.replicas = number
            await change(self._server, replicas=number)
        elif word == "image":
            self.image = f"example.test/app:{number}"
            await change(self._server, template=image(self.image))
        elif word == "partition":
            await change(self._server, updateStrategy={"rollingUpdate": {"partition": number}})
        elif word == "crash":
            await self._process.crash()
        elif word == "lose":
            self._process.lose(number)
        elif word == "wait":
            await asyncio.sleep(number * 0.02)
        elif word in ("delete", "kill"):
            grace = {"gracePeriodSeconds": 0} if word == "kill" else None
            await forgiving(lambda: client.delete(path, grace))
        elif word == "release":
            labels = {"metadata": {"labels": {"app": "lost"}}}
            await forgiving(lambda: client.patch(path, labels, kind=MERGE_PATCH))
        else:
            await forgiving(lambda: self._sick(word, name))

    async def _sick(self, word: str, name: str) -> None:
        pod = await self._server.get(PODS, name)
        status = ended(pod, 1) if word == "fail" else running(pod)
        if word == "unready":
            for one in status["conditions"]:
                one["status"] = "False"
        await self._nodes.set_status(pod, status)

    async def settle(self) -> None:
        """Take what is in the way out of it, and declare that all is to be updated."""
        await change(self._server, updateStrategy={"rollingUpdate": {"partition": 0}})

        def heal(_: Object | None, pod: Object | None) -> None:
            if pod is not None:
                self._server.tasks.create_task(forgiving(lambda: self._heal(pod)))

        (await self._server.watch(PODS)).listen(heal)

    async def _heal(self, pod: Object) -> None:
        if pod["metadata"]["labels"]["app"] == "lost":
            await self._server.client.delete(PODS.path_of(pod), {"gracePeriodSeconds": 0})
            return
        conditions = pod["status"].get("conditions", ())
        sick = any(one["type"] == "Ready" and one["status"] == "False" for one in conditions)
        if sick and pod["status"]["phase"] == "Running":
            await self._nodes.set_status(pod, running(pod))


@histories
@given(parallel=st.booleans(), words=st.lists(_WORDS, min_size=4, max_size=16))
def test_any_history(parallel: bool, words: list[Word]) -> None:
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(
        controller, "FIRST_PAUSE", 0.01
    ), mock.patch.object(controller, "LONGEST_PAUSE", 0.1):  # fmt: skip
        asyncio.run(_happen(Path(directory), words, parallel=parallel))


async def _happen(directory: Path, words: list[Word], *, parallel: bool) -> None:
    policy = "Parallel" if parallel else "OrderedReady"
    async with cluster(directory) as server:
        watcher = Watcher()
        (await server.watch(PODS)).listen(watcher.changed)
        process = Process(server, NAME)
        history = History(server, await server.hollow("one"), process)
        await process.start()
        made = await server.create(STATEFUL_SETS, web(
            history.replicas, history.image, podManagementPolicy=policy,
            volumeClaimTemplates=[CLAIM]))  # fmt: skip
        for word, number in words:
            await history.word(word, number)
        await history.settle()
        await server.until(STATEFUL_SETS, done(history.replicas))
        pods = await server.until(PODS, lambda found: len(found) == history.replicas)
        wanted = [f"web-{number}" for number in range(history.replicas)]
        assert names(owned(pods, made)) == wanted
        assert {pod["spec"]["containers"][0]["image"] for pod in pods} <= {history.image}
        assert not watcher.faults
        assert {f"data-{name}" for name in wanted} <= set(names(await server.listed(CLAIMS)))
        [set_] = await server.listed(STATEFUL_SETS)
        revisions = await server.listed(REVISIONS)
        assert len({str(one["data"]) for one in revisions}) == len(revisions)
        newest = max(revisions, key=lambda one: int(one["revision"]))
        assert newest["metadata"]["name"] == set_["status"]["currentRevision"]
