"""Asking the API server about tokens and permissions, and for how long the answers hold."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubeletpy.server.auth import reviews
from kubeletpy.server.auth.cache import AnswerCache
from kubeletpy.server.auth.identity import User
from kubeletpy.server.auth.reviews import Access, ReviewError, Tokens
from kubeletpy_common.apiclient.errors import ApiError


class Server:
    """Answers reviews as it is told."""

    def __init__(self, *answers: dict[str, Any] | ApiError) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def request(
        self, method: str, path: str, body: Any, /, *, timeout: float, urgent: bool
    ) -> dict[str, Any]:
        assert (method, urgent) == ("POST", True)
        assert timeout > 0
        self.asked.append({"path": path, **body})
        answer = self.answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return {"status": answer}


KNOWN = {
    "authenticated": True,
    "user": {"username": "ada", "uid": "7", "groups": ["g"], "extra": {"k": ["v"]}},
}
ADA = User("ada", "7", ("g",), {"k": ("v",)})


async def test_a_token_is_asked_for_once() -> None:
    server = Server(KNOWN)
    tokens = Tokens(server, 60)
    assert await tokens.authenticate("secret") == ADA
    assert await tokens.authenticate("secret") == ADA
    assert [one["spec"]["token"] for one in server.asked] == ["secret"]
    assert server.asked[0]["path"] == "/apis/authentication.k8s.io/v1/tokenreviews"


async def test_a_wrong_token_is_remembered_too() -> None:
    server = Server({"authenticated": False})
    tokens = Tokens(server, 60)
    assert await tokens.authenticate("wrong") is None
    assert await tokens.authenticate("wrong") is None


@pytest.mark.parametrize(
    "status",
    [{}, {"user": {"username": "ada"}}, {"authenticated": "yes", "user": {"username": "ada"}},
     {"authenticated": True}, {"authenticated": True, "user": {"username": ""}}],
)  # fmt: skip
def test_statuses_that_name_nobody(status: dict[str, Any]) -> None:
    assert reviews.user_of(status) is None


async def test_faults_are_tried_again_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "_FIRST_PAUSE", 0.0)
    fault = ApiError(0, "Unreachable", "down")
    server = Server(*[fault] * 4, KNOWN)
    tokens = Tokens(server, 60)
    with pytest.raises(ReviewError, match="down"):
        await tokens.authenticate("secret")
    assert await tokens.authenticate("secret") == ADA


async def test_a_refusal_is_not_tried_again() -> None:
    server = Server(ApiError(403, "Forbidden", "no"))
    with pytest.raises(ReviewError, match="no"):
        await Access(server, "n1", 60, 60).allows(ADA, "get", "proxy")
    assert len(server.asked) == 1


async def test_access_is_asked_for_each_subresource_and_user() -> None:
    server = Server({"allowed": True}, {"allowed": False}, {"allowed": True, "denied": True})
    access = Access(server, "n1", 60, 60)
    assert await access.allows(ADA, "get", "stats")
    assert await access.allows(ADA, "get", "stats")
    assert not await access.allows(ADA, "get", "proxy")
    assert not await access.allows(User("eve"), "get", "stats")
    spec = server.asked[0]["spec"]
    assert spec == {
        "user": "ada",
        "uid": "7",
        "groups": ["g"],
        "extra": {"k": ["v"]},
        "resourceAttributes": {
            "verb": "get",
            "version": "v1",
            "resource": "nodes",
            "subresource": "stats",
            "name": "n1",
        },
    }


async def test_answers_end() -> None:
    now = 0.0
    cache: AnswerCache[str, int] = AnswerCache(2, lambda: now)
    count = 0

    async def ask() -> tuple[int, float]:
        nonlocal count
        count += 1
        return count, 10.0

    assert [await cache.get("a", ask), await cache.get("a", ask)] == [1, 1]
    now = 10.0
    assert await cache.get("a", ask) == 2
    await cache.get("b", ask)
    await cache.get("c", ask)
    assert len(cache) == 2


async def test_many_who_ask_at_once_are_one_question() -> None:
    cache: AnswerCache[str, int] = AnswerCache(2)
    gate, count = asyncio.Event(), 0

    async def ask() -> tuple[int, float]:
        nonlocal count
        count += 1
        await gate.wait()
        return count, 10.0

    first, second = (asyncio.ensure_future(cache.get("a", ask)) for _ in range(2))
    await asyncio.sleep(0)
    # One of them gives up: the other one still gets its answer.
    first.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await second == 1
