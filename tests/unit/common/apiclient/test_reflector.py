"""The client of the API server against a scripted one on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from kubeletpy.api.codec import decode
from kubeletpy.api.pod import Pod
from kubeletpy.object_cache import ObjectCache, Reference, references_of
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import Access
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

from .server import Script, config_map, events, listing, serving, status

PATH = "/api/v1/namespaces/x/configmaps"


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Script, ApiClient]]:
    async with serving() as script, ApiClient(Access(server=script.url)) as client:
        yield script, client


async def take(reflector: Reflector, count: int) -> list[Synced | Changed]:
    found = []
    async with asyncio.timeout(10):
        async for each in reflector:
            found.append(each)
            if len(found) == count:
                break
    return found


def names(found: list[Synced | Changed]) -> list[object]:
    return [
        [item["metadata"]["name"] for item in each.items]
        if isinstance(each, Synced)
        else (each.kind, each.object["metadata"]["name"])
        for each in found
    ]


async def test_list_then_watch_from_its_version() -> None:
    async with connected() as (script, client):
        script.answers[f"GET {PATH}"] = [listing("7", "a", "b")]
        script.answers[f"WATCH {PATH}"] = [
            events(
                ("ADDED", config_map("c", "8")),
                ("BOOKMARK", config_map("", "9")),
                ("DELETED", config_map("a", "10")),
                hold=True,
            )
        ]
        found = await take(Reflector(client, PATH, field_selector="metadata.name!=z"), 3)
    assert names(found) == [["a", "b"], ("ADDED", "c"), ("DELETED", "a")]
    assert script.seen[0][1] == {"fieldSelector": "metadata.name!=z", "resourceVersion": "0"}
    assert script.seen[1][1]["resourceVersion"] == "7"
    assert isinstance(found[0], Synced)
    assert found[0].items[0]["kind"] == "ConfigMap"


@pytest.mark.slow
async def test_a_broken_watch_goes_on_where_it_was() -> None:
    async with connected() as (script, client):
        script.answers[f"GET {PATH}"] = [listing("7")]
        script.answers[f"WATCH {PATH}"] = [
            events(("ADDED", config_map("c", "8")), ("BOOKMARK", config_map("", "9"))),
            status(500, "InternalError"),
            status(429, "TooManyRequests"),
            events(("ADDED", config_map("d", "12")), hold=True),
        ]
        found = await take(Reflector(client, PATH), 3)
    assert names(found) == [[], ("ADDED", "c"), ("ADDED", "d")]
    watches = [query["resourceVersion"] for key, query in script.seen if key.startswith("WATCH")]
    assert watches == ["7", "9", "9", "9"]
    assert [key for key, _ in script.seen].count(f"GET {PATH}") == 1


@pytest.mark.parametrize("inside", [True, False])
async def test_a_version_too_old_lists_again_the_latest(inside: bool) -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    async with connected() as (script, client):
        script.answers[f"GET {PATH}"] = [listing("7", "a"), listing("20", "b")]
        script.answers[f"WATCH {PATH}"] = [
            events(("ERROR", gone)) if inside else status(410, "Gone"),
            events(("ADDED", config_map("c", "21")), hold=True),
        ]
        found = await take(Reflector(client, PATH), 3)
    assert names(found) == [["a"], ["b"], ("ADDED", "c")]
    lists = [query for key, query in script.seen if key.startswith("GET")]
    assert lists == [{"resourceVersion": "0"}, {}]


async def test_a_server_that_forgets_at_once_is_not_listed_in_a_tight_loop() -> None:
    async with connected() as (script, client):
        script.answers[f"GET {PATH}"] = [listing("7", "a")]
        script.answers[f"WATCH {PATH}"] = [status(410, "Gone")]
        lists = aiter(Reflector(client, PATH))
        async with asyncio.timeout(30):
            await anext(lists)
            await anext(lists)
        # The third waits for its turn, which comes after this time however slow the machine is.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await anext(lists)


async def test_errors_carry_what_the_server_said() -> None:
    async with connected() as (script, client):
        script.answers["GET /a"] = [status(503, "ServiceUnavailable", **{"Retry-After": "3"})]
        script.answers["GET /b"] = [status(404, "NotFound")]
        with pytest.raises(ApiError) as busy:
            await client.get("/a")
        with pytest.raises(ApiError) as missing:
            await client.get("/b")
        with pytest.raises(ApiError) as odd:
            await client.get("/c")
        url = script.url
    assert (busy.value.retry_after, busy.value.transient) == (3.0, True)
    assert (missing.value.not_found, missing.value.transient) == (True, False)
    assert odd.value.code == 418
    async with ApiClient(Access(server=url)) as client:
        with pytest.raises(ApiError) as away:
            await client.get("/a")
    assert (away.value.code, away.value.reason, away.value.transient) == (0, "Unreachable", True)


async def test_no_answer_in_time_is_an_error() -> None:
    async with connected() as (script, client):
        script.answers["GET /a"] = [events(hold=True)]
        with pytest.raises(ApiError, match="no answer of") as late:
            await client.get("/a", timeout=0.05)
    assert late.value.reason == "Timeout"


POD = b"""{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"x","uid":"1"},"spec":{
"imagePullSecrets":[{"name":"pull"}],
"volumes":[{"name":"a","configMap":{"name":"m"}},{"name":"b","secret":{"secretName":"s"}},
{"name":"c","projected":{"sources":[{"configMap":{"name":"pm"}},{"secret":{"name":"ps"}}]}}],
"containers":[{"name":"c","image":"i","envFrom":[{"configMapRef":{"name":"em"}},
{"secretRef":{"name":"es"}}],"env":[
{"name":"A","valueFrom":{"configMapKeyRef":{"name":"km","key":"k"}}},
{"name":"B","valueFrom":{"secretKeyRef":{"name":"ks","key":"k"}}}]}]}}"""


def test_all_that_a_pod_names_is_found() -> None:
    found = references_of(decode(msgspec.json.decode(POD), Pod))
    assert found == {
        *(Reference("configmaps", "x", name) for name in ("m", "pm", "em", "km")),
        *(Reference("secrets", "x", name) for name in ("pull", "s", "ps", "es", "ks")),
    }


async def test_objects_are_followed_while_a_pod_names_them() -> None:
    pod = decode(
        {
            "metadata": {"name": "p", "namespace": "x", "uid": "1"},
            "spec": {"volumes": [{"name": "a", "configMap": {"name": "m"}}]},
        },
        Pod,
    )
    changes: asyncio.Queue[str] = asyncio.Queue()
    async with connected() as (script, client):
        script.answers[f"GET {PATH}"] = [listing("7")]
        script.answers[f"WATCH {PATH}"] = [events(("ADDED", config_map("m", "8")), hold=True)]
        script.answers[f"GET {PATH}/m"] = [status(403, "Forbidden")]
        cache = ObjectCache(client, changes.put_nowait)
        cache.register(pod)
        async with asyncio.timeout(10):
            with contextlib.suppress(ApiError):
                await cache.get("configmaps", "x", "m")
            assert [await changes.get(), await changes.get()] == ["1", "1"]
            found = await cache.get("configmaps", "x", "m")
        assert found["metadata"]["resourceVersion"] == "8"
        assert script.seen[0][1]["fieldSelector"] == "metadata.name=m"
        cache.unregister("1")
        with pytest.raises(ApiError) as direct:
            await cache.get("configmaps", "x", "m")
        assert direct.value.code == 403
        await cache.close()


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("v1", "pods"), "/api/v1/pods"),
        (("v1", "pods", "x", "y", "status"), "/api/v1/namespaces/x/pods/y/status"),
        (("apps/v1", "deployments", "x"), "/apis/apps/v1/namespaces/x/deployments"),
        (("v1", "nodes", "", "a/b"), "/api/v1/nodes/a%2Fb"),
    ],
)
def test_paths(arguments: tuple[str, ...], path: str) -> None:
    assert object_path(*arguments) == path
