"""What goes by itself: old events, and claims and volumes that nothing uses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from controlplane import admission, builtin
from controlplane.builtin.event_ttl import last_seen
from controlplane.controllers.volumes.usage import claim_names
from controlplane.plane import Plane
from tests.unit.controlplane.builtin.test_garbage import until
from tests.unit.controlplane.server.client import Graceful, running_api

CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
PODS = "/api/v1/namespaces/default/pods"


def test_when_an_event_was_last_seen() -> None:
    made = {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}
    first = last_seen(made)
    assert last_seen({**made, "lastTimestamp": "2026-01-01T00:01:00Z"}) == first + 60
    series = {"lastObservedTime": "2026-01-01T00:02:00.000000Z"}
    assert last_seen({**made, "series": series}) == first + 120


def test_claims_of_a_pod() -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "b", "ephemeral": {}},
        {"name": "d", "emptyDir": {}},
    ]
    pod = {"metadata": {"name": "p"}, "spec": {"volumes": volumes}}
    assert set(claim_names(pod)) == {"c", "p-b"}


@pytest.mark.slow
async def test_events_go_after_their_time(tmp_path: Path) -> None:
    def quick(plane: Plane) -> None:
        plane.options = dataclasses.replace(plane.options, event_ttl=1)

    parts = [quick, admission.install, builtin.install]
    async with running_api(tmp_path, strategies={}, parts=parts) as api:
        path = "/api/v1/namespaces/default/events"
        await api.make("old", path, involvedObject={"namespace": "default"})
        await api.make("again", path, involvedObject={"namespace": "default"})
        patch = {"message": "seen again"}
        kind = "application/merge-patch+json"
        status, _ = await api.call("PATCH", f"{path}/again", patch, kind=kind)
        assert status == 200
        await until(api, lambda: not api.store.read("/core/events/").items)


async def test_claims_and_volumes_that_are_used_stay(tmp_path: Path) -> None:
    parts = [admission.install, builtin.install]
    async with running_api(tmp_path, strategies={"/pods": Graceful()}, parts=parts) as api:
        await api.make("claim", CLAIMS, spec={})
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]
        await api.make("pod", PODS, spec={"containers": [], "volumes": volumes})
        await api.make("unused", CLAIMS, spec={})
        await api.make("free", "/api/v1/persistentvolumes", spec={})
        await api.make("bound", "/api/v1/persistentvolumes", spec={})
        kind = "application/merge-patch+json"
        path = "/api/v1/persistentvolumes/bound/status"
        await api.call("PATCH", path, {"status": {"phase": "Bound"}}, kind=kind)
        for one in ("claim", "unused"):
            await api.call("DELETE", f"{CLAIMS}/{one}")
        for one in ("bound", "free"):
            await api.call("DELETE", f"/api/v1/persistentvolumes/{one}")

        def left() -> set[str]:
            kinds = ("/core/persistentvolumeclaims/", "/core/persistentvolumes/")
            items = [item for kind in kinds for item in api.store.read(kind).items]
            return {item.key.rpartition("/")[2] for item in items}

        await until(api, lambda: left() == {"claim", "bound"})
        await api.call("DELETE", f"{PODS}/pod", {"gracePeriodSeconds": 0})
        await api.call("PATCH", path, {"status": {"phase": "Released"}}, kind=kind)
        await until(api, lambda: left() == set())
