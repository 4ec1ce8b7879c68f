"""Who is let in."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from kubeletpy.server.auth.guard import Guard, bearer_token
from kubeletpy.server.auth.reviews import Access, Tokens


class Reviews:
    """An API server that knows one token, and what its user may."""

    def __init__(self, *allowed: tuple[str, str], user: str = "ada") -> None:
        self._allowed = allowed
        self._user = user
        self.fault: Exception | None = None

    async def request(
        self, method: str, path: str, body: Any, /, *, timeout: float, urgent: bool
    ) -> dict[str, Any]:
        if body["kind"] == "TokenReview":
            known = body["spec"]["token"] == "good"
            user = {"username": self._user, "groups": ["g"]}
            return {"status": {"authenticated": known, "user": user}}
        spec = body["spec"]
        asked = spec["resourceAttributes"]
        assert spec["groups"][-1] in ("system:authenticated", "system:unauthenticated")
        return {"status": {"allowed": (asked["verb"], asked["subresource"]) in self._allowed}}


async def ask(guard: Guard, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    async def fine(_: web.Request) -> web.Response:
        return web.Response(text="fine")

    application = web.Application(middlewares=[guard.middleware()])
    application.router.add_get("/pods", fine)
    application.router.add_get("/stats/summary", fine)
    application.router.add_post("/run", fine)
    async with (
        TestClient(TestServer(application)) as client,
        client.request(method, path, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


GOOD = {"Authorization": "Bearer good"}


@pytest.mark.parametrize("path", ["/pods", "/stats/summary", "/run", "/nowhere", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
async def test_nobody_gets_anything(path: str, method: str) -> None:
    reviews = Reviews(("get", "proxy"))
    guard = Guard(tokens=Tokens(reviews, 60), access=Access(reviews, "n1", 60, 60))
    status, text = await ask(guard, path, method)
    assert status == 401
    assert text == ("" if method == "HEAD" else "Unauthorized")


@pytest.mark.parametrize(
    ("allowed", "path", "method", "expected"),
    [
        ([("get", "pods")], "/pods", "GET", 200),
        ([("get", "proxy")], "/pods", "GET", 200),
        ([("get", "stats")], "/pods", "GET", 403),
        ([("get", "stats")], "/stats/summary", "GET", 200),
        ([("get", "proxy")], "/stats/summary", "GET", 403),
        ([("get", "proxy")], "/run", "POST", 403),
        ([("create", "proxy")], "/run", "POST", 200),
        ([("create", "proxy")], "/nowhere", "POST", 404),
    ],
)
async def test_permissions(
    allowed: list[tuple[str, str]], path: str, method: str, expected: int
) -> None:
    reviews = Reviews(*allowed)
    guard = Guard(tokens=Tokens(reviews, 60), access=Access(reviews, "n1", 60, 60))
    status, _ = await ask(guard, path, method, **GOOD)
    assert status == expected


async def test_a_refusal_says_what_was_asked() -> None:
    reviews = Reviews()
    guard = Guard(tokens=Tokens(reviews, 60), access=Access(reviews, "n1", 60, 60))
    status, text = await ask(guard, "/pods", **GOOD)
    assert status == 403
    assert text == ("Forbidden (user=ada, verb=get, resource=nodes, subresource(s)=[pods proxy])\n")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, 200), ({"Authorization": "Bearer wrong"}, 401), (GOOD, 200)],
)
async def test_anonymous_is_who_shows_nothing(headers: dict[str, str], expected: int) -> None:
    reviews = Reviews()
    guard = Guard(tokens=Tokens(reviews, 60), access=None, anonymous=True)
    status, _ = await ask(guard, "/pods", **headers)
    assert status == expected


async def test_tokens_are_not_taken_where_they_cannot_be_reviewed() -> None:
    status, _ = await ask(Guard(tokens=None, access=None), "/pods", **GOOD)
    assert status == 401


@pytest.mark.parametrize(
    ("authorization", "protocols", "expected"),
    [
        ("Bearer abc", "", "abc"),
        ("bearer  abc ", "", "abc"),
        ("Basic abc", "", ""),
        ("Bearer", "", ""),
        ("", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io."
         + base64.urlsafe_b64encode(b"t").decode().rstrip("="), "t"),
        ("", "base64url.bearer.authorization.k8s.io.!!", ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_bearer_tokens(authorization: str, protocols: str, expected: str) -> None:
    assert bearer_token(authorization, protocols) == expected
