"""Tokens of service accounts, bound to their pods (KEP-1205), kept until they are to be renewed.

A token is renewed when 80 % of its life or 24 hours have passed, up to ten seconds earlier by
chance, so that the pods of a node do not ask all at once. While the API server is away, a token
that is still valid serves on. Times are counted from the answer by the node's own clock: by that of
an API server whose clock is late a new token would be one to renew at once, again and again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from kubeletpy.api.pod import Pod
from kubeletpy_common import logs

from .objects import Object, ObjectMissing, Objects, ObjectsUnreachable
from .payload import PayloadError, PayloadUnreachableError

_log = logging.getLogger(__name__)
LONGEST_USE = 24 * 3600.0
SHARE_OF_LIFE = 0.8
LARGEST_JITTER = 10.0
RETRY = 10.0
"""Seconds until a renewal that failed is tried again, as long as the old token is valid."""

Key = tuple[str, str, str, str, int]
"""Pod's uid, namespace, service account, audience and seconds asked for."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes:
        value: the token itself.
        expires: when it ends, in seconds since the epoch, as the API server tells.
        renew: when it is to be renewed, by the node's clock.
        until: when it ends by the node's clock.
    """

    value: str
    expires: float
    renew: float
    until: float

    def __repr__(self) -> str:
        return f"Token(expires={self.expires}, renew={self.renew})"


def renewal(expires: float, lifetime: float, jitter: float) -> float:
    """Return when to renew a token (pure), in seconds since the epoch.

    Args:
        expires: its end.
        lifetime: how many seconds it lives in all.
        jitter: seconds to do so earlier.
    """
    issued = expires - lifetime
    return min(issued + LONGEST_USE, expires - lifetime * (1 - SHARE_OF_LIFE)) - jitter


def request_of(pod: Pod, audience: str, seconds: int) -> Object:
    """Return the TokenRequest for a pod (pure)."""
    meta = pod.metadata
    spec: Object = {
        "audiences": [audience] if audience else [],
        "expirationSeconds": seconds,
        "boundObjectRef": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": meta.name,
            "uid": meta.uid,
        },
    }
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def token_of(answer: Object, jitter: float, now: float) -> Token:
    """Return the token of a TokenRequest that was answered ``now`` (pure).

    Raises:
        PayloadError: the answer has none.
    """
    try:
        status = answer["status"]
        expires = datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
        lifetime = float(answer["spec"]["expirationSeconds"])
        value = str(status["token"])
    except (KeyError, TypeError, ValueError) as error:
        raise PayloadError(f"failed to fetch token: the answer has no {error}") from error
    until = now + lifetime
    return Token(value, expires, renewal(until, lifetime, jitter), until)


class Tokens:
    """The tokens of all pods.

    Args:
        objects: who is asked.
        clock: seconds since the epoch.
        jitter: returns by how many seconds a renewal is early.
    """

    def __init__(
        self,
        objects: Objects,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = lambda: random.uniform(0, LARGEST_JITTER),
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._jitter = jitter
        self._known: dict[Key, Token] = {}
        self._locks: dict[Key, asyncio.Lock] = {}

    async def get(self, pod: Pod, audience: str, seconds: int) -> Token:
        """Return a valid token, a new one if it is time.

        Raises:
            PayloadError: there is none to be had.
        """
        meta = pod.metadata
        account = pod.spec.service_account_name
        key = (meta.uid, meta.namespace, account, audience, seconds)
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._known.get(key)
            now = self._clock()
            if known is not None and now < known.renew:
                return known
            request = request_of(pod, audience, seconds)
            try:
                answer = await self._objects.create_token(meta.namespace, account, request)
            except (ObjectMissing, ObjectsUnreachable) as error:
                return self._kept(key, known, now, error)
            token = token_of(answer, self._jitter(), self._clock())
            self._known[key] = token
            return token

    def _kept(self, key: Key, known: Token | None, now: float, error: Exception) -> Token:
        kind = PayloadUnreachableError if isinstance(error, ObjectsUnreachable) else PayloadError
        if known is None:
            raise kind(f"failed to fetch token: {error}") from error
        if now >= known.until:
            raise kind(f"token expired and refresh failed: {error}") from error
        logs.event(
            _log, logging.WARNING, "token not renewed, the old one is valid", pod=key[0],
            account=f"{key[1]}/{key[2]}", reason=str(error), valid_s=round(known.until - now),
        )  # fmt: skip
        return replace(known, renew=min(now + RETRY, known.until))

    def forget(self, uid: str) -> None:
        """Forget the tokens of a pod."""
        for key in [key for key in self._locks if key[0] == uid]:
            self._known.pop(key, None)
            del self._locks[key]
