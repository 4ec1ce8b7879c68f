from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.kinds.strategies import STRATEGIES
from tests.unit.controlplane.server.client import Api, running_api

OLD = "/api/v1/namespaces/default/events"
NEW = "/apis/events.k8s.io/v1/namespaces/default/events"
MERGE = "application/merge-patch+json"
EVENT = {
    "regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
    "note": "it runs",
    "reason": "Started",
    "type": "Normal",
    "eventTime": "2026-01-01T00:00:00.123456Z",
    "reportingController": "kubelet",
    "reportingInstance": "n",
    "action": "Start",
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies=STRATEGIES) as made:
        yield made


async def test_one_event_has_two_forms(api: Api) -> None:
    made = await api.make("e", NEW, **EVENT)
    assert (made["apiVersion"], made["note"]) == ("events.k8s.io/v1", "it runs")
    _, old = await api.call("GET", f"{OLD}/e")
    assert (old["apiVersion"], old["message"]) == ("v1", "it runs")
    assert (old["involvedObject"]["name"], old["reportingComponent"]) == ("p", "kubelet")
    assert old["metadata"]["uid"] == made["metadata"]["uid"]
    status, value = await api.call("PATCH", f"{NEW}/e", {"series": None}, kind=MERGE)
    assert (status, value) == (200, made)
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}
    assert (await api.call("PATCH", f"{NEW}/e", {"series": series}, kind=MERGE))[0] == 200
    assert (await api.call("GET", f"{OLD}/e"))[1]["series"] == series
    assert (await api.call("DELETE", f"{OLD}/e"))[0] == 200
    assert (await api.call("GET", f"{NEW}/e"))[0] == 404


@pytest.mark.slow
async def test_lists_and_watches_have_the_form_that_is_asked_for(api: Api) -> None:
    await api.make("e", NEW, **EVENT)

    async def check(path: str, version: str, key: str) -> None:
        _, listed = await api.call("GET", path)
        (item,) = listed["items"]
        assert (item["apiVersion"], item[key]) == (version, "it runs")
        answer = await api.send("GET", f"{path}?watch=1&timeoutSeconds=1")
        (line,) = (await answer.read()).splitlines()
        event = json.loads(line)
        assert (event["type"], event["object"]["apiVersion"]) == ("ADDED", version)

    await asyncio.gather(check(OLD, "v1", "message"), check(NEW, "events.k8s.io/v1", "note"))


async def test_events_are_selected_by_what_they_are_about(api: Api) -> None:
    await api.make("e", NEW, **EVENT)
    for path, selector, found in (
        (OLD, "involvedObject.kind=Pod,involvedObject.name=p", 1),
        (OLD, "involvedObject.name=q", 0),
        (OLD, "source=kubelet,type=Normal,reason=Started", 1),
        (NEW, "regarding.name=p,reportingController=kubelet", 1),
        (NEW, "regarding.name=q", 0),
    ):
        status, listed = await api.call("GET", path, params={"fieldSelector": selector})
        assert (status, len(listed["items"])) == (200, found), selector
    status, error = await api.call("GET", NEW, params={"fieldSelector": "involvedObject.name=p"})
    assert (status, "not supported" in error["message"]) == (400, True)
