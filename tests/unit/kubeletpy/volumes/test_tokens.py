from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeletpy.volumes.objects import NoObjects, ObjectsUnreachable
from kubeletpy.volumes.payload import PayloadError
from kubeletpy.volumes.tokens import RETRY, Token, Tokens, renewal

from ..api.pods import make_pod

HOUR = 3600.0


@pytest.mark.parametrize(
    ("lifetime", "jitter", "after"),
    [
        (HOUR, 0.0, 0.8 * HOUR),
        (HOUR, 10.0, 0.8 * HOUR - 10),
        (30 * HOUR, 0.0, 24 * HOUR),
        (365 * 24 * HOUR, 5.0, 24 * HOUR - 5),
        (600.0, 0.0, 480.0),
    ],
)
def test_renewal(lifetime: float, jitter: float, after: float) -> None:
    assert renewal(1000.0 + lifetime, lifetime, jitter) == pytest.approx(1000.0 + after)


class Issuer(NoObjects):
    """An API server that numbers its tokens."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.away = False
        self.ahead = 0.0

    async def create_token(
        self, namespace: str, account: str, request: dict[str, Any]
    ) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.away:
            raise ObjectsUnreachable("away")
        self.asked.append((namespace, account, request))
        seconds = request["spec"]["expirationSeconds"]
        end = datetime.fromtimestamp(self.now + self.ahead + seconds, UTC)
        return {
            "spec": request["spec"],
            "status": {
                "token": f"token {len(self.asked)}",
                "expirationTimestamp": end.isoformat().replace("+00:00", "Z"),
            },
        }


def test_a_token_is_asked_for_once_and_renewed_in_time() -> None:
    issuer = Issuer()
    tokens = Tokens(issuer, lambda: issuer.now, lambda: 0.0)
    pod = make_pod(serviceAccountName="robot")

    async def scenario() -> None:
        both = await asyncio.gather(tokens.get(pod, "", 3600), tokens.get(pod, "", 3600))
        assert [token.value for token in both] == ["token 1", "token 1"]
        assert both[0].renew == issuer.now + 2880
        assert (await tokens.get(pod, "vault", 600)).value == "token 2"
        issuer.now += 2879
        assert (await tokens.get(pod, "", 3600)).value == "token 1"
        issuer.now += 2
        assert (await tokens.get(pod, "", 3600)).value == "token 3"
        tokens.forget(pod.metadata.uid)
        assert (await tokens.get(pod, "", 3600)).value == "token 4"

    asyncio.run(scenario())
    namespace, account, request = issuer.asked[0]
    assert (namespace, account) == ("default", "robot")
    assert request["spec"] == {
        "audiences": [],
        "expirationSeconds": 3600,
        "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "11111111-2222"
        },
    }  # fmt: skip
    assert issuer.asked[1][2]["spec"]["audiences"] == ["vault"]


@pytest.mark.parametrize("ahead", [-2 * HOUR, 2 * HOUR])
def test_the_clock_of_the_api_server_is_wrong(ahead: float) -> None:
    issuer = Issuer()
    issuer.ahead = ahead
    tokens = Tokens(issuer, lambda: issuer.now, lambda: 0.0)

    async def scenario() -> None:
        first = await tokens.get(make_pod(), "", 3600)
        assert (first.renew - issuer.now, first.expires - issuer.now) == (2880, 3600 + ahead)
        issuer.now += 2879
        assert await tokens.get(make_pod(), "", 3600) is first
        issuer.now += 2
        assert (await tokens.get(make_pod(), "", 3600)).value == "token 2"

    asyncio.run(scenario())


def test_while_the_api_server_is_away_a_valid_token_serves() -> None:
    issuer = Issuer()
    tokens = Tokens(issuer, lambda: issuer.now, lambda: 0.0)
    pod = make_pod()

    async def scenario() -> None:
        issuer.away = True
        with pytest.raises(PayloadError, match=r"^failed to fetch token: away$"):
            await tokens.get(pod, "", 600)
        issuer.away = False
        await tokens.get(pod, "", 600)
        issuer.away = True
        issuer.now += 500
        kept = await tokens.get(pod, "", 600)
        assert (kept.value, kept.renew) == ("token 1", issuer.now + RETRY)
        issuer.now += 101
        with pytest.raises(PayloadError, match="expired and refresh failed: away"):
            await tokens.get(pod, "", 600)
        issuer.away = False
        assert (await tokens.get(pod, "", 600)).value == "token 2"

    asyncio.run(scenario())


def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(Token("secret", 1.0, 1.0, 1.0))
