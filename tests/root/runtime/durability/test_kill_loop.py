"""The daemon is killed at random points of everything, again and again, under load.

KUBELETPY_KILL_SEED    the seed of all that is random here; printed, and told by a failure
KUBELETPY_KILL_ROUNDS  how many times to kill; 200 unless told
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import time

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import cri_pb2_grpc as services
from tests.root.runtime.cri.node import Node, wait_until
from tests.root.runtime.durability import reality
from tests.root.runtime.durability.promises import Lists, broken, disagreements, lines
from tests.root.runtime.durability.turmoil import Client, ContainerFact, Puller
from tests.root.runtime.durability.warm_daemon import WarmDaemon
from tests.support.ociimage import File

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500)]

ROUNDS = int(os.environ.get("KUBELETPY_KILL_ROUNDS", "200"))
CLIENTS = 4
WITNESSES = 2
LONGEST = 0.3
"""Seconds of work before a kill, at most."""
SPAWNER_SHARE = 0.2
"""Of the rounds: the spawner is killed first, and the daemon goes on for a while without it."""
EACH_COLD = 10
"""Of so many rounds one starts the daemon as its users do."""
SETTLE = 10.0
"""Seconds within which a restarted daemon's lists and the machine must agree."""


def push_images(node: Node, random: random.Random) -> list[str]:
    """Push images of some files each, that have their own sums with them."""
    references = []
    for number in range(3):
        files: dict[str, File] = {}
        for index in range(120):
            files[f"data/{index}"] = File(random.randbytes(random.randrange(20000)))
        sums = "".join(f"{hashlib.sha256(f.data).hexdigest()}  {name.removeprefix('data/')}\n"
                       for name, f in files.items())  # fmt: skip
        files["data/sums"] = File(sums.encode())
        references.append(node.push(f"turmoil/image{number}", files))
    return references


class Loop:
    """The rounds."""

    def __init__(self, node: Node, seed: str) -> None:
        self.node = node
        self.cold = node.daemon
        self.warm = WarmDaemon(node.place)
        self.random = random.Random(seed)
        logs = node.place.directory / "logs"
        self.keeper = Client("witness", self._fork(), node.image, logs, range(0))
        self.clients = [
            Client(
                f"client{n}", self._fork(), node.image, logs, range(8000 + n * 20, 8020 + n * 20)
            )
            for n in range(CLIENTS)
        ]
        images = push_images(node, self.random)
        checker = Client("checker", self._fork(), node.image, logs, range(9000, 9020))
        self.puller = Puller(checker, self._fork(), images)
        self.witnesses: list[ContainerFact] = []

    def _fork(self) -> random.Random:
        return random.Random(self.random.random())

    @property
    def everybody(self) -> list[Client]:
        return [self.keeper, *self.clients, self.puller.client]

    async def begin(self) -> None:
        """Start the containers that nothing may ever happen to."""
        async with self._connected():
            for number in range(WITNESSES):
                name = f"witness{number}"
                config = self.node.pod_config(name)
                pod = await self.keeper.run_pod(config)
                container = await self.keeper.create(pod, "witness")
                await self.keeper.start(container)
                self.witnesses.append(container)
                # Its shell forks once, for mkfifo.
                while len(found := await asyncio.to_thread(self._processes, container)) != 1:
                    pass
                [container.pid] = found

    def _processes(self, container: ContainerFact) -> set[int]:
        return reality.look(self.node.place).processes.get(container.id, set())

    async def round(self, number: int) -> None:
        """Work, kill at some moment, start again, compare."""
        await self._work_until_killed()
        # Most of a start is imports, which the rounds would spend most of their time with.
        self.node.daemon = self.cold if number % EACH_COLD == 0 else self.warm
        await asyncio.to_thread(self.node.daemon.start)
        async with self._connected():
            await self._check()

    async def _work_until_killed(self) -> None:
        daemon = self.node.daemon
        async with self._connected():
            workers: list[Client | Puller] = [*self.clients, self.puller]
            tasks = [asyncio.create_task(worker.work()) for worker in workers]
            if self.random.random() < SPAWNER_SHARE:
                await asyncio.wait(tasks, timeout=self.random.uniform(0, LONGEST))
                (await asyncio.to_thread(reality.spawner, daemon.pid)).kill()
            done, _ = await asyncio.wait(
                tasks, timeout=self.random.uniform(0, LONGEST), return_when="FIRST_EXCEPTION"
            )
            daemon.kill()
            # A client that has failed fails the test here.
            await asyncio.gather(*tasks)
            assert not done, "a client ended before the daemon was killed"

    async def _check(self) -> None:
        deadline = time.monotonic() + SETTLE
        lists = await self._lists()
        bad = broken(self.everybody, lists)
        assert not bad, "\n".join(bad)
        while True:
            seen = await asyncio.to_thread(reality.look, self.node.place)
            bad = disagreements(lists, seen)
            if not bad:
                break
            assert time.monotonic() < deadline, "\n".join(bad)
            await asyncio.sleep(0.02)
            lists = await self._lists()
        for witness in self.witnesses:
            assert seen.processes.get(witness.id) == {witness.pid}, "a witness was harmed"
        await self._check_images()

    async def _lists(self) -> Lists:
        runtime = self.keeper.runtime
        pods = await runtime.ListPodSandbox(cri.ListPodSandboxRequest())
        containers = await runtime.ListContainers(cri.ListContainersRequest())
        statuses = {}
        for container in containers.containers:
            request = cri.ContainerStatusRequest(container_id=container.id)
            statuses[container.id] = (await runtime.ContainerStatus(request)).status
        return Lists({pod.id: pod for pod in pods.items}, statuses)

    async def _check_images(self) -> None:
        puller = self.puller
        answer = await puller.images.ListImages(cri.ListImagesRequest())
        tags = {tag for image in answer.images for tag in image.repo_tags}
        for reference, present in puller.present.items():
            if present is not None:
                assert (reference in tags) == present, f"{reference}: {present} was promised"
            # What is listed is checked the next time it is pulled.
            puller.present[reference] = None if reference in tags else False
        bad = await asyncio.to_thread(reality.damaged_blobs, self.node.place)
        assert not bad, bad

    async def end(self) -> None:
        """Remove everything; the witnesses have missed nothing."""
        async with self._connected():
            for witness in self.witnesses:
                await self.keeper.stop(witness, 0)
                found = [int(line) for line in lines(witness)]
                assert found == list(range(len(found)))
                assert len(found) > 10
            for client in self.everybody:
                for pod in list(client.pods):
                    await client.remove_pod(pod)
            for reference in self.puller.references:
                request = cri.RemoveImageRequest(image=cri.ImageSpec(image=reference))
                await self.puller.images.RemoveImage(request)

    def end_warm(self) -> None:
        """Go on with a daemon that was started as its users do."""
        self.warm.close()
        if not self.cold.running:
            self.cold.start()
        self.node.daemon = self.cold

    def _connected(self) -> _Connection:
        return _Connection(self)


class _Connection:
    """A channel to the daemon that all clients use."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __aenter__(self) -> None:
        self._channel = grpc.aio.insecure_channel(f"unix://{self._loop.node.place.socket}")
        for client in self._loop.everybody:
            client.runtime = services.RuntimeServiceStub(self._channel)
        self._loop.puller.images = services.ImageServiceStub(self._channel)

    async def __aexit__(self, *error: object) -> None:
        await self._channel.close()


async def test_a_daemon_killed_at_any_point_harms_and_loses_nothing(node: Node) -> None:
    seed = os.environ.get("KUBELETPY_KILL_SEED") or secrets.token_hex(4)
    print(f"KUBELETPY_KILL_SEED={seed}")
    loop = Loop(node, seed)
    with node.pod(port_mappings=[cri.PortMapping(container_port=80, host_port=7999)]):
        # The first pod with a port makes the bridge and its rules; they stay with the daemon.
        pass
    before = reality.rules(node.place)
    await loop.begin()
    for number in range(ROUNDS):
        try:
            await loop.round(number)
        except BaseException as error:
            # What it made is to be removed behind the test.
            loop.end_warm()
            node.connect()
            error.add_note(f"in round {number}; again with KUBELETPY_KILL_SEED={seed}")
            raise
    await loop.end()

    # Links are removed behind the calls, and addresses after them.
    def is_gone() -> bool:
        seen = reality.look(node.place)
        return seen.links == {"lo", node.place.bridge} and not seen.addresses

    wait_until(is_gone, "links and addresses to go", 10)
    left = reality.look(node.place)
    assert not left.shims
    assert not left.processes
    assert not left.pinned | left.addresses | left.writable | left.cgroups
    assert not any(left.directories.values())
    # A daemon that has started without host ports has made no rules for them.
    assert set(reality.rules(node.place)) <= set(before)
    await asyncio.to_thread(loop.end_warm)
    node.connect()
