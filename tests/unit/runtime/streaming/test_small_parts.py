"""Tokens, statuses, sizes of terminals, buffers."""

from __future__ import annotations

import asyncio
import json

import pytest

from runtime.streaming.buffers import ByteBuffer
from runtime.streaming.resize import SizeParser
from runtime.streaming.status import Outcome, status_json
from runtime.streaming.tokens import Tokens, TooManyTokensError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_token_serves_once() -> None:
    tokens: Tokens[str] = Tokens()
    token = tokens.issue("session")
    assert len(token) >= 128 // 6
    assert tokens.take(token) == "session"
    assert tokens.take(token) is None
    assert tokens.take("") is None


def test_a_token_expires() -> None:
    clock = Clock()
    tokens: Tokens[int] = Tokens(clock, lifetime=60)
    first = tokens.issue(1)
    clock.now += 59.9
    second = tokens.issue(2)
    clock.now += 0.1
    assert tokens.take(first) is None
    assert tokens.take(second) == 2


def test_tokens_are_bounded_and_room_comes_back() -> None:
    clock = Clock()
    tokens: Tokens[int] = Tokens(clock, lifetime=60, limit=2)
    issued = {tokens.issue(1), tokens.issue(2)}
    assert len(issued) == 2
    with pytest.raises(TooManyTokensError, match="60 s"):
        tokens.issue(3)
    clock.now += 60
    tokens.issue(4)
    assert len(tokens) == 1


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(), {"metadata": {}, "status": "Success"}),
        (
            Outcome(exit_code=137),
            {
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": "command terminated with non-zero exit code: exit code 137",
                "details": {"causes": [{"reason": "ExitCode", "message": "137"}]},
            },
        ),
        (
            Outcome(error="no such program"),
            {
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "message": "no such program",
                "code": 500,
                "details": {"causes": [{"message": "no such program"}]},
            },
        ),
    ],
)
def test_statuses(outcome: Outcome, expected: dict[str, object]) -> None:
    assert json.loads(status_json(outcome)) == expected


def test_sizes_come_in_any_pieces() -> None:
    parser = SizeParser()
    data = b'{"Width":80,"Height":24}\n{"width":1,"height":2}'
    sizes = [size for byte in data for size in parser.feed(bytes([byte]))]
    assert sizes == [(80, 24), (1, 2)]


@pytest.mark.parametrize(
    "data",
    [b"[1]", b'{"Width":70000,"Height":1}', b'{"Width":"x","Height":1}', b'{"Width":1}', b"\xff"],
)
def test_what_is_no_size_is_dropped(data: bytes) -> None:
    assert SizeParser().feed(data) == []


def test_endless_rubbish_is_not_kept() -> None:
    parser = SizeParser()
    for _ in range(100):
        assert parser.feed(b'{"' + b"x" * 100) == []
    # What was kept is dropped at the bound, and a whole object is understood again.
    assert any(parser.feed(b'{"Width":5,"Height":6}') == [(5, 6)] for _ in range(300))


async def test_a_full_buffer_makes_its_writer_wait() -> None:
    buffer = ByteBuffer(limit=4)
    await buffer.put(b"12345")
    late = asyncio.create_task(buffer.put(b"6"))
    await asyncio.sleep(0)
    assert not late.done()
    assert await buffer.get() == b"12345"
    await late
    buffer.end()
    assert await buffer.get() == b"6"
    assert await buffer.get() == b""
    await buffer.put(b"too late")
    assert await buffer.get() == b""


async def test_a_failed_buffer_gives_what_it_had_and_then_the_error() -> None:
    buffer = ByteBuffer(limit=4)
    await buffer.put(b"last")
    late = asyncio.create_task(buffer.put(b"never"))
    await asyncio.sleep(0)
    buffer.fail(ConnectionResetError("gone"))
    await late
    assert await buffer.get() == b"last"
    with pytest.raises(ConnectionResetError, match="gone"):
        await buffer.get()
