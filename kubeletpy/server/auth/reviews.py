"""Asking the API server who a token belongs to, and what a user may.

Source: Kubernetes API reference, ``TokenReview``, ``SubjectAccessReview``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final, Protocol

from kubeletpy_common.apiclient.errors import ApiError

from .cache import AnswerCache
from .identity import User

_TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_CAPACITY: Final = 4096
_LONGEST_TOKEN: Final = 64 << 10
_SECONDS: Final = 10.0
_ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.2


class ReviewError(Exception):
    """The API server could not be asked, or did not answer with a review."""


class Reviewer(Protocol):
    """What is needed of an API client."""

    async def request(
        self, method: str, path: str, body: object, /, *, timeout: float, urgent: bool
    ) -> dict[str, Any]:
        """Send an object and return what became of it."""
        ...


class Tokens:
    """Who a bearer token belongs to.

    Args:
        client: asks the API server.
        seconds: for which an answer holds, whichever it is.
    """

    def __init__(self, client: Reviewer, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        # A dump of our memory shall not show tokens.
        self._key = secrets.token_bytes(32)
        self._cache: AnswerCache[bytes, User | None] = AnswerCache(_CAPACITY)

    async def authenticate(self, token: str) -> User | None:
        """Return the user of ``token``; None: it is nobody's.

        Raises:
            ReviewError: nobody knows now.
        """
        if len(token) > _LONGEST_TOKEN:
            return None
        key = hmac.digest(self._key, token.encode("utf-8", "surrogateescape"), hashlib.sha256)

        async def ask() -> tuple[User | None, float]:
            body = {
                "kind": "TokenReview",
                "apiVersion": "authentication.k8s.io/v1",
                "spec": {"token": token},
            }
            return user_of(await _review(self._client, _TOKENS, body)), self._seconds

        return await self._cache.get(key, ask)


class Access:
    """What users may do with this node.

    Args:
        client: asks the API server.
        node: its name.
        allowed_seconds, refused_seconds: for which an answer holds.
    """

    def __init__(
        self, client: Reviewer, node: str, allowed_seconds: float, refused_seconds: float
    ) -> None:
        self._client = client
        self._node = node
        self._seconds = {True: allowed_seconds, False: refused_seconds}
        self._cache: AnswerCache[tuple[Any, ...], bool] = AnswerCache(_CAPACITY)

    async def allows(self, user: User, verb: str, subresource: str) -> bool:
        """Return whether ``user`` may do ``verb`` with a subresource of this node.

        Raises:
            ReviewError: nobody knows now.
        """
        extra = tuple(sorted(user.extra.items()))
        key = (user.name, user.uid, user.groups, extra, verb, subresource)

        async def ask() -> tuple[bool, float]:
            body = access_review(user, self._node, verb, subresource)
            allowed = is_allowed(await _review(self._client, _ACCESS, body))
            return allowed, self._seconds[allowed]

        return await self._cache.get(key, ask)


async def _review(client: Reviewer, path: str, body: dict[str, Any]) -> Mapping[str, Any]:
    pause = _FIRST_PAUSE
    for attempt in range(_ATTEMPTS):
        try:
            answer = await client.request("POST", path, body, timeout=_SECONDS, urgent=True)
            break
        except ApiError as error:
            final = attempt == _ATTEMPTS - 1 or (400 <= error.code < 500 and error.code != 429)
            if final:
                raise ReviewError(f"{body['kind']}: {error}") from error
        await asyncio.sleep(pause)
        pause *= 2
    status = answer.get("status")
    if not isinstance(status, dict):
        raise ReviewError(f"{body['kind']}: the answer has no status")
    return status


def user_of(status: Mapping[str, Any]) -> User | None:
    """Return the user of a TokenReview's status; None: the token is nobody's (pure)."""
    if status.get("authenticated") is not True:
        return None
    user = status.get("user") or {}
    if not user.get("username"):
        return None
    extra = {key: tuple(values or ()) for key, values in (user.get("extra") or {}).items()}
    groups = tuple(user.get("groups") or ())
    return User(user["username"], user.get("uid", ""), groups, extra)


def access_review(user: User, node: str, verb: str, subresource: str) -> dict[str, Any]:
    """Return the review to ask for (pure)."""
    spec: dict[str, Any] = {
        "user": user.name,
        "groups": list(user.groups),
        "resourceAttributes": {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": node,
        },
    }
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {
        "kind": "SubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": spec,
    }


def is_allowed(status: Mapping[str, Any]) -> bool:
    """Say whether a SubjectAccessReview's status allows (pure); a denial outweighs."""
    return status.get("allowed") is True and status.get("denied") is not True
