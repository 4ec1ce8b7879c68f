"""What a Go kube-scheduler decides: ``python -m tests.support.peer_scheduler PROGRAM FILE``.

Places the pods of all `scenarios` that are not in the file yet and writes the outcomes down; a unit
test wants the same of our scheduler.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from controlplane.engine.resources import (
    BUDGETS,
    CLAIMS,
    CSI_NODES,
    NAMESPACES,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    REPLICA_SETS,
    SERVICES,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    Resource,
)
from kubeletpy_common.apiclient.client import MERGE_PATCH
from kubeletpy_common.apiclient.errors import ApiError
from tests.support.cluster import Cluster, cluster
from tests.support.placing.by_neighbours import CLASSES
from tests.support.placing.objects import Scenario
from tests.support.placing.scenarios import scenarios

EVENTS = Resource("events.k8s.io/v1", "events", "Event")
SETTLE, PATIENCE = 0.5, 30.0
"""Seconds for the scheduler to see what is there, and to decide."""


@contextlib.asynccontextmanager
async def peer(program: str, server: Cluster) -> AsyncIterator[None]:
    """Run a kube-scheduler within the block."""
    command = [program, f"--kubeconfig={server.kubeconfig}", "--leader-elect=false",
               "--secure-port=0", "--v=0"]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def put(server: Cluster, resource: Resource, value: Object) -> Object:
    """Create an object with its status."""
    namespace = value["metadata"].get("namespace", "default")
    made = await server.create(resource, value, namespace)
    if value.get("status"):
        path = resource.path_of(made, "status")
        made = await server.client.patch(path, {"status": value["status"]}, kind=MERGE_PATCH)
    return made


async def prepare(server: Cluster, one: Scenario) -> None:
    """Create all but the pod."""
    owner = ""
    for node in one.nodes:
        made = await put(server, NODES, node)
        taints = {"spec": {"taints": node["spec"].get("taints", [])}}
        await server.client.patch(NODES.path_of(made), taints, kind=MERGE_PATCH)
    for resource, value in one.objects:
        made = await put(server, resource, value)
        owner = made["metadata"]["uid"] if resource is REPLICA_SETS else owner
    for pod in one.pods:
        await put(server, PODS, pod)
    for reference in one.pod["metadata"].get("ownerReferences", ()):
        reference["uid"] = owner


async def clear(server: Cluster) -> None:
    """Delete everything."""
    order = (PODS, REPLICA_SETS, SERVICES, BUDGETS, CLAIMS, VOLUMES, STORAGE_CLASSES, CSI_NODES,
             NODES, EVENTS)  # fmt: skip
    for resource in order:
        for value in await server.listed(resource):
            meta = value["metadata"]
            if meta["name"] == "kubernetes":
                continue
            with contextlib.suppress(ApiError):
                if meta.get("finalizers"):
                    changes = {"metadata": {"finalizers": None}}
                    await server.client.patch(resource.path_of(value), changes, kind=MERGE_PATCH)
                await server.client.delete(resource.path_of(value), {"gracePeriodSeconds": 0})
    for value in await server.listed(NAMESPACES):
        if value["metadata"]["name"] == "shop":
            unlabelled: Object = {"metadata": {"labels": None}}
            await server.client.patch(NAMESPACES.path_of(value), unlabelled, kind=MERGE_PATCH)


async def outcome(server: Cluster, one: Scenario) -> dict[str, Any]:
    """Create the pod, and return what comes of it."""
    subject = await put(server, PODS, one.pod)
    uid = subject["metadata"]["uid"]
    async with asyncio.timeout(PATIENCE):
        while True:
            events = await server.listed(EVENTS)
            mine = [one for one in events if one["regarding"].get("uid") == uid]
            reasons = {one["reason"]: one.get("note", "") for one in mine}
            if reasons:
                break
            await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE)
    found = await server.client.get(PODS.path_of(subject))
    events = await server.listed(EVENTS)
    victims = sorted(
        one["regarding"]["name"] for one in events if one["reason"] == "Preempted"
    )  # fmt: skip
    if "FailedScheduling" not in reasons:
        return {"node": found["spec"]["nodeName"]}
    made: dict[str, Any] = {"message": reasons["FailedScheduling"]}
    if victims:
        made["victims"] = victims
        return made
    [condition] = [
        one for one in found["status"]["conditions"] if one["type"] == "PodScheduled"
    ]  # fmt: skip
    assert condition["message"] == made["message"], condition
    return {**made, "reason": condition["reason"]}


async def record(program: str, outcomes: dict[str, Any]) -> dict[str, Any]:
    """Return the outcomes of all scenarios; those that are known are not tried again."""
    with tempfile.TemporaryDirectory() as directory:
        async with cluster(Path(directory)) as server, peer(program, server):
            for name, value, more in CLASSES:
                meta = {"metadata": {"name": name}, "value": value, **more}
                await server.create(PRIORITY_CLASSES, meta)
            for name, one in scenarios().items():
                if name in outcomes:
                    continue
                with contextlib.suppress(ApiError):
                    await clear(server)
                objects = one.objects
                if any(resource is NAMESPACES for resource, _ in objects):
                    await _namespaces(server, one)
                try:
                    await prepare(server, one)
                    await asyncio.sleep(SETTLE)
                    outcomes[name] = await outcome(server, one)
                except (ApiError, TimeoutError, KeyError, AssertionError) as error:
                    print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
                print(name, outcomes.get(name), file=sys.stderr)
    return outcomes


async def _namespaces(server: Cluster, one: Scenario) -> None:
    """Make namespaces anew: they cannot be deleted without a controller."""
    kept = []
    for resource, value in one.objects:
        if resource is not NAMESPACES:
            kept.append((resource, value))
            continue
        with contextlib.suppress(ApiError):
            await server.create(NAMESPACES, value)
        changes = {"metadata": {"labels": value["metadata"]["labels"]}}
        await server.client.patch(
            NAMESPACES.path(name=value["metadata"]["name"]), changes, kind=MERGE_PATCH
        )
    one.objects = kept


if __name__ == "__main__":
    target = Path(sys.argv[2])
    known = json.loads(target.read_text()) if target.exists() else {}
    found = asyncio.run(record(sys.argv[1], known))
    target.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
