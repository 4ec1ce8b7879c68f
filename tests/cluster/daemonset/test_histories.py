"""Whatever happens to a DaemonSet: in the end each node that fits has its pod, and no other."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from controlplane.controllers.daemonset import controller
from controlplane.controllers.daemonset.fitting import node_of
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import DAEMON_SETS, NODES, PODS, REVISIONS, Object, is_deleting
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.cluster.daemonset.test_daemonset import NAME, change, done, image, log
from tests.support.binder import Binder
from tests.support.cluster import Cluster, cluster
from tests.support.histories import Process, forgiving, histories
from tests.support.hollow import HollowNodes, ended

_NODES = "abcde"
Word = tuple[str, int]
_WORDS = st.tuples(
    st.sampled_from(("image", "surge", "repel", "drain", "welcome", "join", "delete", "kill",
                     "fail", "release", "crash", "lose", "wait")),
    st.integers(0, len(_NODES) - 1),
)  # fmt: skip


class History:
    """One history, and what it declared last."""

    def __init__(self, server: Cluster, nodes: HollowNodes, process: Process) -> None:
        self._server = server
        self._hollow = nodes
        self._process = process
        self.repelled: dict[str, str] = {}
        self.nodes = {"a", "b", "c"}
        self.image = "example.test/app:0"
        self._joined = 0

    async def word(self, word: str, number: int) -> None:
        """Let something happen."""
        client, node = self._server.client, _NODES[number]
        if word == "image":
            self.image = f"example.test/app:{number}"
            await change(self._server, template=image(self.image))
        elif word == "surge":
            rolling = {"maxSurge": number, "maxUnavailable": 0 if number else 1}
            await change(self._server, updateStrategy={"rollingUpdate": rolling})
        elif word in ("repel", "drain", "welcome") and node in self.nodes:
            effect = {"repel": "NoSchedule", "drain": "NoExecute"}.get(word, "")
            taints = [{"key": "x", "effect": effect}] if effect else []
            self.repelled = {**self.repelled, node: effect}
            await client.patch(
                NODES.path(name=node), {"spec": {"taints": taints}}, kind=MERGE_PATCH
            )  # fmt: skip
        elif word == "join":
            self._joined += 1
            self.nodes.add(f"new{self._joined}")
            await self._hollow.make(f"new{self._joined}")
        elif word == "crash":
            await self._process.crash()
        elif word == "lose":
            self._process.lose(number)
        elif word == "wait":
            await asyncio.sleep(number * 0.02)
        else:
            await self._pod(word, number)

    async def _pod(self, word: str, number: int) -> None:
        pods = await self._server.listed(PODS)
        if not pods:
            return
        pod, client = pods[number % len(pods)], self._server.client
        if word == "fail":
            await forgiving(lambda: self._hollow.set_status(pod, ended(pod, 1)))
        elif word == "release":
            labels = {"metadata": {"labels": {"app": "lost"}}}
            await forgiving(lambda: client.patch(PODS.path_of(pod), labels, kind=MERGE_PATCH))
        else:
            grace = {"gracePeriodSeconds": 0} if word == "kill" else None
            await forgiving(lambda: client.delete(PODS.path_of(pod), grace))

    def wanted(self) -> list[str]:
        """Return the nodes that shall have a pod."""
        return sorted(node for node in self.nodes if not self.repelled.get(node))

    def may_have(self) -> set[str]:
        """Return the nodes on which a pod may stay."""
        return {node for node in self.nodes if self.repelled.get(node) != "NoExecute"}


@histories
@given(words=st.lists(_WORDS, min_size=4, max_size=16))
def test_any_history(words: list[Word]) -> None:
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(
        controller, "FIRST_PAUSE", 0.01
    ), mock.patch.object(controller, "LONGEST_PAUSE", 0.1):  # fmt: skip
        asyncio.run(_happen(Path(directory), words))


async def _happen(directory: Path, words: list[Word]) -> None:
    async with cluster(directory) as server:
        server.tasks.create_task(Binder(server.client).run())
        process = Process(server, NAME)
        history = History(server, await server.hollow(*"abc"), process)
        await process.start()
        spec = log()
        spec["spec"]["template"]["spec"]["containers"][0]["image"] = history.image
        made = await server.create(DAEMON_SETS, spec)
        for word, number in words:
            await history.word(word, number)
        wanted = history.wanted()
        await server.until(DAEMON_SETS, done(len(wanted)))

        def settled(found: list[Object]) -> bool:
            ours = [pod for pod in found if pod["metadata"]["labels"]["app"] == "log"]
            there = Counter(node_of(pod) for pod in ours)
            return (
                set(wanted) <= set(there) <= history.may_have()
                and set(there.values()) <= {1}
                and not any(is_deleting(pod) for pod in found)
                and all(
                    pod["spec"]["containers"][0]["image"] == history.image
                    for pod in ours if node_of(pod) in wanted
                )
                and all((controller_of(pod) or {})["uid"] == made["metadata"]["uid"]
                        for pod in ours)
            )  # fmt: skip

        await server.until(PODS, settled)
        revisions = await server.listed(REVISIONS)
        assert len({str(one["data"]) for one in revisions}) == len(revisions)
