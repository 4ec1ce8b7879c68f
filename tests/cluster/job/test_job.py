"""Jobs against a real API server; pods without machines."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import JOBS, PODS, QUOTAS, Object, Resource, is_deleting
from kubeletpy_common.apiclient.client import MERGE_PATCH
from kubeletpy_common.apiclient.errors import ApiError
from tests.support.cluster import Cluster, cluster
from tests.support.hollow import ended, running

EVENTS = Resource("v1", "events", "Event")
INDEX = "batch.kubernetes.io/job-completion-index"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def job(name: str = "j", **spec: Any) -> Object:
    pod: dict[str, Any] = {
        "nodeName": "n1", "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "example.test/app:1"}],
    }  # fmt: skip
    return {"metadata": {"name": name}, "spec": {"template": {"spec": pod}, **spec}}


def condition(value: Object, kind: str) -> dict[str, Any] | None:
    found = [one for one in value.get("status", {}).get("conditions", ()) if one["type"] == kind]
    return found[0] if found else None


def is_true(value: Object, kind: str) -> bool:
    found = condition(value, kind)
    return found is not None and found["status"] == "True"


async def until_job(server: Cluster, kind: str, name: str = "j") -> Object:
    """Wait until a Job has a condition."""

    def check(found: list[Object]) -> bool:
        return any(one["metadata"]["name"] == name and is_true(one, kind) for one in found)

    found = await server.until(JOBS, check)
    return next(one for one in found if one["metadata"]["name"] == name)


async def no_finalizers(server: Cluster) -> list[Object]:
    """Wait until no pod waits to be counted; return those that are there."""
    return await server.until(
        PODS, lambda pods: all(not pod["metadata"].get("finalizers") for pod in pods)
    )


async def until_event(server: Cluster, reason: str, name: str = "j") -> set[str]:
    """Wait for an event about a Job; return what events of the reason say."""

    def fitting(found: list[Object]) -> set[str]:
        return {
            one["message"] for one in found
            if one["involvedObject"]["name"] == name and one["reason"] == reason
        }  # fmt: skip

    return fitting(await server.until(EVENTS, fitting))


async def test_a_job_runs_to_its_end(server: Cluster) -> None:
    await server.hollow("n1", decide=ended)
    await server.start("job-controller")
    await server.create(JOBS, job(completions=5, parallelism=2))
    done = await until_job(server, "Complete")
    status = done["status"]
    assert status["succeeded"] == 5
    assert status["uncountedTerminatedPods"] == {}
    assert (status["ready"], status["terminating"]) == (0, 0)
    assert "active" not in status
    assert {"startTime", "completionTime"} <= status.keys()
    assert [(one["type"], one["reason"], one["message"]) for one in status["conditions"]] == [
        (kind, "CompletionsReached", "Reached expected number of succeeded pods")
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    assert len(await no_finalizers(server)) == 5
    assert await until_event(server, "Completed") == {"Job completed"}


async def test_each_index_succeeds_once(server: Cluster) -> None:
    await server.hollow("n1", decide=ended)
    host = await server.start("job-controller")
    await server.create(JOBS, job(completions=4, parallelism=3, completionMode="Indexed"))
    done = await until_job(server, "Complete")
    assert done["status"]["completedIndexes"] == "0-3"
    assert done["status"]["succeeded"] == 4
    pods = await no_finalizers(server)
    assert sorted(pod["metadata"]["annotations"][INDEX] for pod in pods) == ["0", "1", "2", "3"]
    assert sorted(pod["spec"]["hostname"] for pod in pods) == ["j-0", "j-1", "j-2", "j-3"]
    await until_event(server, "Completed")
    counted = server.counted(host)
    prefix = "job_controller_job"
    assert counted[f"{prefix}s_finished_total/Indexed/succeeded/CompletionsReached"] == 1
    assert counted[f"{prefix}_pods_finished_total/Indexed/succeeded"] == 4
    assert counted[f"{prefix}_finished_indexes_total/succeeded/global"] == 4
    assert counted[f"{prefix}_pods_creation_total/new/succeeded"] == 4
    assert counted[f"{prefix}_syncs_total/Indexed/success/pods_created"] >= 2


async def test_a_failure_beyond_the_limit_ends_the_job_and_its_other_pods(server: Cluster) -> None:
    indexes = {"0": 3}

    def decide(pod: Object) -> Object:
        code = indexes.get(pod["metadata"]["annotations"][INDEX])
        return running(pod) if code is None else ended(pod, code)

    await server.hollow("n1", decide=decide)
    await server.start("job-controller")
    await server.create(
        JOBS, job(completions=3, parallelism=3, completionMode="Indexed", backoffLimit=0)
    )
    done = await until_job(server, "Failed")
    assert [(one["type"], one["reason"]) for one in done["status"]["conditions"]] == [
        ("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded"),
    ]  # fmt: skip
    # Those that still ran when the Job failed, failed with it.
    assert done["status"]["failed"] == 3
    assert "completionTime" not in done["status"]
    assert len(await no_finalizers(server)) == 1
    assert await until_event(server, "BackoffLimitExceeded") == {
        "Job has reached the specified backoff limit"
    }


async def test_a_pod_failure_policy_ends_the_job_and_says_why(server: Cluster) -> None:
    await server.hollow("n1", decide=lambda pod: ended(pod, 42))
    await server.start("job-controller")
    rule = {"action": "FailJob",
            "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}}  # fmt: skip
    await server.create(JOBS, job(podFailurePolicy={"rules": [rule]}))
    done = await until_job(server, "Failed")
    found = condition(done, "Failed")
    assert found is not None
    pod = (await no_finalizers(server))[0]["metadata"]["name"]
    assert found["reason"] == "PodFailurePolicy"
    assert found["message"] == (
        f"Container main for pod default/{pod} failed with exit code 42 matching FailJob rule at "
        "index 0"
    )


async def test_indexes_fail_each_for_itself(server: Cluster) -> None:
    def decide(pod: Object) -> Object:
        return ended(pod, int(pod["metadata"]["annotations"][INDEX]) % 2)

    await server.hollow("n1", decide=decide)
    await server.start("job-controller")
    await server.create(JOBS, job(
        completions=4, parallelism=4, completionMode="Indexed", backoffLimitPerIndex=0,
    ))  # fmt: skip
    done = await until_job(server, "Failed")
    status = done["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1,3")
    assert (status["succeeded"], status["failed"]) == (2, 2)
    assert status["conditions"][-1]["reason"] == "FailedIndexes"
    await no_finalizers(server)


async def test_suspending_takes_pods_away_and_resuming_begins_anew(server: Cluster) -> None:
    await server.hollow("n1")
    await server.start("job-controller")
    made = await server.create(JOBS, job(completions=3, parallelism=3, suspend=True))
    held = await until_job(server, "Suspended")
    assert "startTime" not in held["status"]
    assert await server.listed(PODS) == []
    path = JOBS.path_of(made)
    await server.client.patch(path, {"spec": {"suspend": False}}, kind=MERGE_PATCH)
    await server.pods(3)
    await server.until(JOBS, lambda jobs: jobs[0]["status"].get("ready") == 3)
    runs = await server.get(JOBS, "j")
    assert "startTime" in runs["status"]
    found = condition(runs, "Suspended")
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "JobResumed")
    await server.client.patch(path, {"spec": {"suspend": True}}, kind=MERGE_PATCH)
    await server.pods(0)
    held = await until_job(server, "Suspended")
    assert "failed" not in held["status"]
    assert "startTime" not in held["status"]
    assert await until_event(server, "Suspended") == {"Job suspended"}
    assert await until_event(server, "Resumed") == {"Job resumed"}


async def test_fewer_parallel_pods_are_wanted(server: Cluster) -> None:
    await server.hollow("n1")
    await server.start("job-controller")
    made = await server.create(JOBS, job(completions=5, parallelism=4))
    await server.pods(4)
    await server.client.patch(JOBS.path_of(made), {"spec": {"parallelism": 1}}, kind=MERGE_PATCH)
    await server.pods(1)
    await server.until(JOBS, lambda jobs: jobs[0]["status"].get("active") == 1)
    assert "failed" not in (await server.get(JOBS, "j"))["status"]


async def test_a_deadline_ends_the_job(server: Cluster) -> None:
    await server.hollow("n1")
    await server.start("job-controller")
    await server.create(JOBS, job(activeDeadlineSeconds=1))
    done = await until_job(server, "Failed")
    assert done["status"]["conditions"][-1]["reason"] == "DeadlineExceeded"
    await server.pods(0)


async def test_pods_of_a_job_that_is_deleted_go_with_it(server: Cluster) -> None:
    await server.hollow("n1")
    await server.start("job-controller")
    for policy in ("Background", "Foreground"):
        made = await server.create(JOBS, job(completions=3, parallelism=3))
        await server.pods(3)
        await server.client.delete(JOBS.path_of(made), {"propagationPolicy": policy})
        await server.until(JOBS, lambda jobs: not jobs)
        await server.until(PODS, lambda pods: not pods)


async def test_pods_that_fit_are_adopted_and_counted(server: Cluster) -> None:
    await server.hollow("n1", decide=ended)
    labels = {"app": "x"}
    pod = {"metadata": {"name": "lone", "labels": labels},
           "spec": job()["spec"]["template"]["spec"]}  # fmt: skip
    await server.create(PODS, pod)
    wanted = job(completions=1, manualSelector=True, selector={"matchLabels": labels})
    wanted["spec"]["template"]["metadata"] = {"labels": labels}
    await server.create(JOBS, wanted)
    await server.start("job-controller")
    done = await until_job(server, "Complete")
    assert done["status"]["succeeded"] == 1
    assert [one["metadata"]["name"] for one in await no_finalizers(server)] == ["lone"]


async def test_a_pod_that_does_not_fit_any_more_is_let_go_and_replaced(server: Cluster) -> None:
    await server.hollow("n1")
    await server.start("job-controller")
    await server.create(JOBS, job())
    pod = (await server.pods(1))[0]
    gone = {"metadata": {"labels": {"batch.kubernetes.io/controller-uid": None}}}
    await server.client.patch(PODS.path_of(pod), gone, kind=MERGE_PATCH)
    found = {one["metadata"]["name"]: one["metadata"] for one in await server.pods(2)}
    await server.until(PODS, lambda pods: sum("ownerReferences" in one["metadata"]
                                              for one in pods) == 1)  # fmt: skip
    released = (await server.get(PODS, pod["metadata"]["name"]))["metadata"]
    assert "ownerReferences" not in released
    assert "finalizers" not in released
    assert len(found) == 2


async def test_a_pod_that_was_asked_for_right_before_a_crash_is_not_made_twice(
    server: Cluster,
) -> None:
    await server.hollow("n1", decide=ended)
    asked: list[tuple[str, Object]] = []
    host = await server.start("job-controller")
    client = host.context.client
    create = client.create
    bell = asyncio.Event()

    async def lost(path: str, body: Object, **more: Any) -> Any:
        if path.endswith("/pods"):
            asked.append((path, body))
            bell.set()
            await asyncio.Event().wait()
        return await create(path, body, **more)

    async def late(path: str, body: Object, **more: Any) -> Any:
        """The server does what it was asked for before only after the next one has looked."""
        while asked and path.endswith("/pods"):
            await create(*asked.pop())
        return await create(path, body, **more)

    client.create = lost  # type: ignore[method-assign, assignment]
    await create(JOBS.path("default"), {"apiVersion": "batch/v1", "kind": "Job", **job()})
    async with asyncio.timeout(10):
        await bell.wait()
    await server.stop(host)
    client.create = late  # type: ignore[method-assign, assignment]
    host = await server.start("job-controller")
    done = await until_job(server, "Complete")
    assert done["status"]["succeeded"] == 1
    assert not asked
    assert len(await no_finalizers(server)) == 1


async def test_a_job_of_another_controller_is_left_alone(server: Cluster) -> None:
    await server.hollow("n1", decide=ended)
    await server.start("job-controller")
    await server.create(JOBS, job("other", managedBy="example.test/queue"))
    await server.create(JOBS, job("ours"))
    await until_job(server, "Complete", "ours")
    other = await server.get(JOBS, "other")
    assert other.get("status", {}) == {}
    owners = {one["metadata"]["labels"]["job-name"] for one in await server.listed(PODS)}
    assert owners == {"ours"}


@pytest.mark.parametrize("mode", ["NonIndexed", "Indexed"])
async def test_counts_are_exact_wherever_the_controller_is_killed(
    server: Cluster, mode: str
) -> None:
    dice = random.Random(mode)
    sour = True

    def decide(pod: Object) -> Object | None:
        return ended(pod, int(sour and dice.random() < 0.3))

    await server.hollow("n1", decide=decide)
    await server.create(
        JOBS, job(completions=25, parallelism=8, completionMode=mode, backoffLimit=1000)
    )
    for _ in range(15):
        host = await server.start("job-controller")
        await asyncio.sleep(dice.random() * 0.06)
        await server.stop(host)
    sour = False
    await server.start("job-controller")
    done = await until_job(server, "Complete")
    pods = await no_finalizers(server)
    phases = Counter(pod["status"]["phase"] for pod in pods)
    status = done["status"]
    assert (status["succeeded"], status.get("failed", 0)) == (25, phases["Failed"])
    assert phases["Failed"] > 0
    if mode == "Indexed":
        good = [pod for pod in pods if pod["status"]["phase"] == "Succeeded"]
        assert Counter(pod["metadata"]["annotations"][INDEX] for pod in good) == Counter(
            str(number) for number in range(25)
        )
    else:
        assert phases["Succeeded"] == 25


@pytest.mark.parametrize("mode", ["NonIndexed", "Indexed"])
async def test_after_any_history_the_job_has_what_it_declared(server: Cluster, mode: str) -> None:
    """Pods fail, are deleted, the Job is suspended and resized, and the controller is killed."""
    dice = random.Random(f"history {mode}")
    hollow = await server.hollow("n1")
    made = await server.create(
        JOBS, job(completions=12, parallelism=4, completionMode=mode, backoffLimit=1000)
    )
    path = JOBS.path_of(made)
    known = await server.watch(PODS)

    async def end_one(code: int) -> None:
        pods = [pod for pod in known if pod["status"]["phase"] == "Running"]
        if pods:
            await hollow.set_status(pod := dice.choice(pods), ended(pod, code))

    async def delete_one() -> None:
        if pods := list(known):
            await server.client.delete(PODS.path_of(dice.choice(pods)))

    async def change(**spec: Any) -> None:
        await server.client.patch(path, {"spec": spec}, kind=MERGE_PATCH)

    deeds = (
        lambda: end_one(0), lambda: end_one(1), delete_one, lambda: change(suspend=True),
        lambda: change(suspend=False), lambda: change(parallelism=dice.randint(0, 6)),
    )  # fmt: skip
    for _ in range(15):
        host = await server.start("job-controller")
        for _ in range(dice.randint(0, 3)):
            try:
                await dice.choice(deeds)()
            except ApiError as error:
                if not error.not_found:
                    raise
            await asyncio.sleep(dice.random() * 0.03)
        await server.stop(host)
    await change(suspend=False, parallelism=12)
    host = await server.start("job-controller")
    # Failures before the last start are no reason to wait any more.
    done = asyncio.create_task(until_job(server, "Complete"))
    while not done.done():
        try:
            await end_one(0)
        except ApiError as error:
            if not error.not_found:
                raise
        await asyncio.sleep(0.01)
    status = (await done)["status"]
    await no_finalizers(server)
    assert status["succeeded"] == 12
    assert status["uncountedTerminatedPods"] == {}
    assert "active" not in status
    if mode == "Indexed":
        assert status["completedIndexes"] == "0-11"
    assert not any(pod["status"]["phase"] == "Running" for pod in await server.listed(PODS))


async def test_a_quota_is_told_of_and_asks_for_nothing_too_often(server: Cluster) -> None:
    await server.create(QUOTAS, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}})
    await server.until(QUOTAS, lambda found: bool(found[0].get("status", {}).get("hard")))
    await server.hollow("n1")
    host = await server.start("job-controller")
    calls: list[str] = []
    create = host.context.client.create

    async def counted(path: str, *rest: Any, **more: Any) -> Any:
        calls.append(path)
        return await create(path, *rest, **more)

    host.context.client.create = counted  # type: ignore[method-assign]
    await server.create(JOBS, job(completions=100, parallelism=100))
    messages = await until_event(server, "FailedCreate")
    assert any("exceeded quota: few" in one for one in messages)
    await server.pods(2)
    await asyncio.sleep(1.0)
    assert sum(path.endswith("/pods") for path in calls) < 30
    assert not any(is_deleting(pod) for pod in await server.listed(PODS))
