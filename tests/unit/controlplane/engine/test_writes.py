"""What a writer makes of answers that do not say whether a write was done."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controlplane.engine.informer import Informers
from controlplane.engine.resources import PODS, Object
from controlplane.engine.writes import UncertainError, Writer
from kubeletpy_common.apiclient.errors import ApiError

POD: Object = {"metadata": {"name": "a", "namespace": "n", "uid": "1", "resourceVersion": "5"}}


class Server:
    """Answers every write as told; counts lists."""

    def __init__(self, answer: BaseException | None) -> None:
        self.answer = answer
        self.lists = 0

    async def write(self, path: str, *_: object, **__: object) -> Object:
        if self.answer is not None:
            raise self.answer
        return {"kind": "Pod", "metadata": {**POD["metadata"], "resourceVersion": "6",
                                            "deletionTimestamp": "x",
                                            "deletionGracePeriodSeconds": 30}}  # fmt: skip

    create = update = patch = delete = write

    async def get(self, path: str, **_: object) -> Object:
        self.lists += 1
        return {"metadata": {"resourceVersion": "9"}, "items": []}


def writer_of(server: Server) -> tuple[Writer, Informers]:
    client: Any = server
    informers = Informers(client)
    informers.of(PODS).learn(POD)
    return Writer(client, informers), informers


@pytest.mark.parametrize("code", [0, 500, 502, 504])
@pytest.mark.parametrize("verb", ["create", "update", "delete"])
async def test_memory_is_doubted_where_a_write_may_have_been_done(verb: str, code: int) -> None:
    server = Server(ApiError(code, "Timeout", "no word", retry_after=3.0))
    writer, informers = writer_of(server)
    with pytest.raises(UncertainError) as caught:
        await getattr(writer, verb)(PODS, POD)
    assert (caught.value.code, caught.value.retry_after) == (code, 3.0)
    await informers.of(PODS).certain()
    assert server.lists == 1
    assert informers.of(PODS).get("n/a") is None


@pytest.mark.parametrize("code", [400, 403, 409, 422, 429, 503])
async def test_a_refusal_is_no_doubt(code: int) -> None:
    server = Server(ApiError(code, "Refused", "no"))
    writer, informers = writer_of(server)
    with pytest.raises(ApiError):
        await writer.create(PODS, POD)
    await informers.of(PODS).certain()
    assert server.lists == 0


async def test_a_write_that_was_broken_off_is_doubted() -> None:
    server = Server(asyncio.CancelledError())
    writer, informers = writer_of(server)
    with pytest.raises(asyncio.CancelledError):
        await writer.delete(PODS, POD)
    await informers.of(PODS).certain()
    assert server.lists == 1


async def test_a_deletion_says_whether_anything_was_there() -> None:
    writer, informers = writer_of(Server(None))
    assert await writer.delete(PODS, POD)
    known = informers.of(PODS).get("n/a")
    assert known is not None
    assert "deletionTimestamp" in known["metadata"]
    for code, reason in ((404, "NotFound"), (409, "Conflict")):
        writer, informers = writer_of(Server(ApiError(code, reason, "no")))
        assert not await writer.delete(PODS, POD)
        assert informers.of(PODS).get("n/a") is None
