"""The files of examples/tour on a cluster of ``kubeletpy up``: each does what its head says."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.root.e2e.running import Directories, Up, kubectl, kubectl_until, output_of, start

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

TOUR = Path(__file__).resolve().parents[3] / "examples" / "tour"
IMAGE = "127.0.0.1:5000/demo/web:1"
WAIT = "--timeout=90s"


@dataclass
class Cluster:
    """A running ``up``, and kubectl for it."""

    up: Up
    kubeconfig: Path

    async def run(self, *arguments: str) -> str:
        return await kubectl(self.up, self.kubeconfig, *arguments)

    async def until(self, which: str, field: str, value: str) -> None:
        """Wait until a field of an object has a value."""
        await kubectl_until(self.up, self.kubeconfig, which, field, value.__eq__)

    async def apply(self, number: str) -> None:
        (path,) = TOUR.glob(f"{number}-*.yaml")
        await self.run("apply", "-f", str(path))

    async def run_now(self, cron_job: str, name: str) -> None:
        """Make a Job of a CronJob; the ``create job --from`` of kubectl 1.20 knows none of v1."""
        template = json.loads(await self.run("get", "cronjob", cron_job, "-o", "json"))["spec"]
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}
        path = self.kubeconfig.with_name("job.json")
        path.write_text(json.dumps(job | {"spec": template["jobTemplate"]["spec"]}))
        await self.run("apply", "-f", str(path))

    async def complete(self, job: str) -> str:
        """Wait until a Job is complete; return what its pods said."""
        await self.run("wait", "--for=condition=complete", f"job/{job}", WAIT)
        return await self.run("logs", "-l", f"job-name={job}", "--tail=-1")

    async def at_host(self, *command: str) -> str:
        return await output_of(
            "nsenter", f"--net=/proc/{self.up.process.pid}/ns/net", *command
        )  # fmt: skip


async def test_every_example_of_the_tour(directories: Directories) -> None:
    up = await start(directories)
    try:
        await up.until("Ingresses are served")
        cluster = Cluster(up, directories.run / "kubeconfig")
        for number in ("02", "03", "04", "05", "06", "07", "08", "09", "11", "13"):
            await cluster.apply(number)
        async with asyncio.TaskGroup() as tasks:
            for check in (_rollout, _configuration, _stateful, _daemons, _work, _volume,
                          _autoscaler, _budget):  # fmt: skip
                tasks.create_task(check(cluster))
        await _names(cluster)
        await _ingress(cluster)
        await _policy(cluster)
    finally:
        # What is left of them goes with the rest.
        up.process.send_signal(signal.SIGINT)
        code, _ = await up.end()
    assert code == 0, up.progress


async def _rollout(cluster: Cluster) -> None:
    await cluster.run("set", "env", "deployment/web", "GREETING=again")
    await cluster.run("rollout", "status", "deployment/web", WAIT)
    address = await cluster.run("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    await _page(cluster, address, "again from web-")
    await cluster.run("rollout", "undo", "deployment/web")
    await cluster.run("rollout", "status", "deployment/web", WAIT)
    await _page(cluster, address, "hello from web-")


async def _page(cluster: Cluster, address: str, begin: str) -> None:
    """Fetch the Service's page until it begins so: the proxy hears of the end of old pods last."""
    async with asyncio.timeout(20):
        while True:
            page = await cluster.at_host("curl", "-sS", "--max-time", "20", f"http://{address}/")
            if page.startswith(begin):
                return
            await asyncio.sleep(0.2)


async def _configuration(cluster: Cluster) -> None:
    said = await cluster.complete("configured")
    assert "the colour is " in said
    assert "words" in said


async def _stateful(cluster: Cluster) -> None:
    await cluster.run("rollout", "status", "statefulset/db", WAIT)
    assert await cluster.run("exec", "db-0", "--", "cat", "/data/visits") == "db-0 started\n"
    before = await cluster.run("get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}")
    await cluster.run("delete", "pod", "db-0")
    await kubectl_until(
        cluster.up, cluster.kubeconfig, "pods --field-selector=metadata.name=db-0",
        ".metadata.uid", lambda uid: uid not in ("", before),
    )  # fmt: skip
    await cluster.run("wait", "--for=condition=ready", "pod/db-0", WAIT)
    visits = await cluster.run("exec", "db-0", "--", "cat", "/data/visits")
    assert visits == "db-0 started\n" * 2


async def _daemons(cluster: Cluster) -> None:
    await cluster.run("rollout", "status", "daemonset/agent", WAIT)
    node = (await cluster.run("get", "nodes", "-o", "name")).strip().removeprefix("node/")
    said = await cluster.run("logs", "daemonset/agent")
    assert said == f"watching {node}\n"


async def _work(cluster: Cluster) -> None:
    squares = await cluster.complete("squares")
    assert sorted(squares.split("\n")[:-1]) == [f"{n} squared is {n * n}" for n in range(6)]
    await cluster.run_now("tick", "now")
    assert "UTC" in await cluster.complete("now")


async def _volume(cluster: Cluster) -> None:
    await cluster.until("pod/writer", ".status.phase", "Succeeded")
    assert await cluster.run("logs", "writer") == "remembered\n"
    await cluster.until("pvc/notes", ".status.phase", "Bound")


async def _autoscaler(cluster: Cluster) -> None:
    """It is told what its pods use: the way from the kernel through the kubelet to it is whole."""
    await cluster.run("wait", "--for=condition=ScalingActive", "hpa/busy", WAIT)


async def _budget(cluster: Cluster) -> None:
    await cluster.until("pdb/web", ".status.expectedPods", "5")


async def _balancer(cluster: Cluster) -> None:
    field = ".status.loadBalancer.ingress[*].ip"
    address = await kubectl_until(cluster.up, cluster.kubeconfig, "service/front", field, bool)
    # The proxy and the link hear of the address when it is in the status, each in its time.
    retry = ("--retry", "20", "--retry-all-errors", "--retry-delay", "1", "--max-time", "20")
    page = await cluster.at_host("curl", "-sS", *retry, f"http://{address}:8080/")
    assert " from web-" in page


async def _names(cluster: Cluster) -> None:
    await cluster.apply("12")
    said = await cluster.complete("names")
    assert said.count("db-0 started") >= 2
    assert "db-0.db.default.svc.cluster.local" in said
    assert "db-1.db.default.svc.cluster.local" in said


async def _ingress(cluster: Cluster) -> None:
    page = await cluster.at_host(
        "curl", "-sS", "--max-time", "20", "-H", "Host: web.example.test", "http://127.0.0.1/"
    )
    assert page.startswith("hello from web-")


async def _policy(cluster: Cluster) -> None:
    """Who has the label gets the page, who has not gets nothing."""
    await cluster.apply("10")
    # The first process of a container is not ended by a signal that it does not handle.
    script = "timeout 3 wget -qO- http://web; exit $?"
    fetch = ("--restart=Never", f"--image={IMAGE}", "--", "sh", "-c", script)
    await asyncio.gather(
        cluster.run("run", "friend", "--labels=access=web", *fetch),
        cluster.run("run", "stranger", *fetch),
    )
    await asyncio.gather(*(
        cluster.until(f"pod/{name}", ".status.phase", phase)
        for name, phase in (("friend", "Succeeded"), ("stranger", "Failed"))
    ))  # fmt: skip
    assert (await cluster.run("logs", "friend")).startswith("hello from web-")
    assert "hello" not in await cluster.run("logs", "stranger")
