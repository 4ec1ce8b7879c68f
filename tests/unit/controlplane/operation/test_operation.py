from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane import operation, serving
from controlplane.operation.durations import parse_duration
from controlplane.options import Options, OptionsError
from controlplane.plane import Plane
from tests.unit.controlplane.server.client import JSON, MAPS, running_api


def operated(**options: Any) -> Callable[[Plane], None]:
    def install(plane: Plane) -> None:
        plane.options = replace(plane.options, **options)
        operation.install(plane)

    return install


async def slowly(started: asyncio.Event, go_on: asyncio.Event) -> AsyncIterator[bytes]:
    yield b'{"metadata":{"name":"slow"}'
    started.set()
    await go_on.wait()
    yield b"}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("0", 0),
        ("-2s", -2),
        (".5s", 0.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "1s ", "1.s5", "1e3s", "٣s", "5s" * 30])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


async def test_health(tmp_path: Path) -> None:
    async with running_api(tmp_path, parts=[operated()]) as api:

        async def ask(path: str) -> tuple[int, str]:
            answer = await api.send("GET", path)
            return answer.status, await answer.text()

        for root in ("livez", "readyz", "healthz"):
            assert await ask(f"/{root}") == (200, "ok")
        status, text = await ask("/readyz?verbose")
        assert status == 200
        expected = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]shutdown ok\nreadyz check passed\n"
        assert text == expected
        assert await ask("/readyz/ping") == (200, "ok")
        assert (await ask("/readyz/none"))[0] == 404
        api.plane.checks["quota"] = lambda: "not counted yet"
        status, text = await ask("/livez")
        assert status == 500
        assert "[-]quota failed: reason withheld" in text
        assert text.endswith("livez check failed\n")
        assert (await ask("/livez/quota"))[0] == 500
        status, text = await ask("/livez?exclude=quota&exclude=what&verbose")
        assert (status, "[+]quota excluded: ok" in text, '"what"' in text) == (200, True, True)
        del api.plane.checks["quota"]
        api.plane.stopping = True
        assert (await ask("/readyz"))[0] == 500
        assert await ask("/livez") == (200, "ok")
        assert (await api.send("POST", "/livez")).status == 405


async def test_metrics(tmp_path: Path) -> None:
    async with running_api(tmp_path, parts=[operated()]) as api:
        await api.make("a")
        await api.call("POST", MAPS, {"metadata": {"name": "a"}})
        await api.call("GET", "/api/v1/configmaps")
        await api.call("GET", "/apis/nonsense/v1/a-thing")
        await api.call(
            "PATCH", f"{MAPS}/a?fieldManager=me", b"{}", kind="application/apply-patch+yaml"
        )
        watch = await api.send("GET", f"{MAPS}?watch=true")
        text = await (await api.send("GET", "/metrics")).text()
        watch.close()
    lines = text.splitlines()
    of = 'dry_run="",group="",resource="configmaps",scope="namespace",subresource="",verb="POST"'
    of += ',component="apiserver",version="v1"'
    for line in (
        f'apiserver_request_total{{code="201",{of}}} 1.0',
        f'apiserver_request_total{{code="409",{of}}} 1.0',
        'apiserver_storage_objects{resource="configmaps"} 1.0',
        'apiserver_storage_objects{resource="deployments.apps"} 0.0',
        'apiserver_current_inflight_requests{request_kind="readOnly"} 1.0',
        'etcd_request_duration_seconds_count{operation="commit"} 1.0',
    ):
        assert sorted_labels(line) in {sorted_labels(found) for found in lines}
    assert 'verb="APPLY"' in text
    assert "nonsense" not in text
    assert any(
        line.startswith("apiserver_longrunning_requests") and line.endswith(" 1.0")
        for line in lines
    )
    assert "process_resident_memory_bytes" in text


def sorted_labels(line: str) -> tuple[str, ...]:
    name, _, rest = line.partition("{")
    labels, _, value = rest.partition("}")
    return (name, *sorted(labels.split(",")), value)


async def test_too_many_requests_at_once_are_refused_and_watches_are_not_counted(
    tmp_path: Path,
) -> None:
    bounds = operated(max_mutating_inflight=1, max_requests_inflight=1)
    async with running_api(tmp_path, parts=[bounds]) as api:
        watches = [await api.send("GET", f"{MAPS}?watch=true") for _ in range(3)]
        started, go_on = asyncio.Event(), asyncio.Event()
        slow = asyncio.create_task(
            api.http.post(MAPS, data=slowly(started, go_on), headers={"Content-Type": JSON})
        )
        await started.wait()
        async with asyncio.timeout(30):
            while (
                answer := await api.send("POST", MAPS, {"metadata": {"name": "b"}})
            ).status == 201:
                await api.call("DELETE", f"{MAPS}/b")
        value = json.loads(await answer.read())
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert (value["reason"], value["kind"]) == ("TooManyRequests", "Status")
        assert (await api.call("GET", MAPS))[0] == 200
        go_on.set()
        assert (await slow).status == 201
        assert (await api.call("POST", MAPS, {"metadata": {"name": "b"}}))[0] == 201
        for watch in watches:
            watch.close()


@pytest.mark.slow
async def test_a_request_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with running_api(tmp_path, parts=[operated(request_timeout=0.3)]) as api:
        for query in ("", "?timeout=100ms", "?timeout=1h"):
            started, go_on = asyncio.Event(), asyncio.Event()
            answer = await api.http.post(
                MAPS + query, data=slowly(started, go_on), headers={"Content-Type": JSON}
            )
            value = json.loads(await answer.read())
            assert (answer.status, value["reason"]) == (504, "Timeout")
            go_on.set()
        status, value = await api.call("GET", f"{MAPS}?timeout=soon")
        assert (status, value["message"][:44]) == (
            400,
            "invalid timeout specified in the request URL",
        )
        assert (await api.call("GET", f"{MAPS}?timeout=0s"))[0] == 200


@pytest.mark.slow
async def test_a_server_that_stops_ends_its_watches_and_no_second_one_takes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_IDLE_SECONDS", 0.4)
    (tmp_path / "tokens").write_text("secret,me,1,system:masters\n")
    options = Options(
        data_dir=tmp_path / "data", secure_port=0, token_auth_file=tmp_path / "tokens"
    )
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(
        headers={"Authorization": "Bearer secret"}, connector=aiohttp.TCPConnector(ssl=tls)
    ) as http:
        async with serving.serving(options) as running:
            url = f"https://127.0.0.1:{running.port}"
            with pytest.raises(OptionsError, match="used by another API server"):
                async with serving.serving(options):
                    pass
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=tls)
            writer.write(b"GET /version HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            # Who never ends its headers is shown the door.
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
            long = {"X-Long": "x" * 100_000}
            async with http.get(f"{url}/version", headers=long) as answer:
                assert answer.status == 400
            watch = await http.get(f"{url}/api/v1/pods?watch=true")
        assert await asyncio.wait_for(watch.read(), 30) == b""
    async with serving.serving(options):
        pass
