"""How a pull proves who it is: basic, bearer tokens, identity tokens.

Distribution's docs/spec/auth/token.md and oauth.md. Credentials are given to one registry: the
one that the image reference names. They go to its API, or to the token service that it names over
an equally safe channel, and nowhere else; whoever a redirect or a foreign layer URL leads to never
sees them and its challenges are never answered (CVE-2020-15157).
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any, Final

from yarl import URL

from runtime.images.challenge import Challenge, parse_challenges
from runtime.images.endpoints import Endpoint
from runtime.images.errors import MalformedImage, Unauthorized
from runtime.images.manifest import load_json
from runtime.images.settings import Credentials
from runtime.images.targets import parse_url
from runtime.images.transport import (
    CONNECTION_ERRORS,
    Transport,
    explain,
    is_final,
    printable,
    wrap,
)
from runtime.images.tries import Tries, is_away

MAX_TOKEN_ANSWER: Final = 256 * 1024
MAX_TOKEN: Final = 64 * 1024
_DEFAULT_LIFETIME: Final = 60
_MARGIN_SECONDS: Final = 10


@dataclass(frozen=True)
class _Token:
    value: str
    expires: float


class _NoGet(Unauthorized):
    """The token service does not answer this method."""


class Authenticator:
    """Answers the challenges of one registry during one pull."""

    def __init__(
        self,
        transport: Transport,
        registry: URL,
        endpoint: Endpoint,
        credentials: Credentials | None,
        scope: str,
    ) -> None:
        """Prepare.

        Args:
            transport: for requests to the token service.
            registry: the base URL of the registry.
            endpoint: its settings.
            credentials: for that registry; None is anonymous.
            scope: asked for, such as ``repository:library/busybox:pull``; what the registry's
                challenge names is never asked for, so that it cannot widen a token.
        """
        self._transport = transport
        self._registry = registry
        self._endpoint = endpoint
        self._attempts = endpoint.attempts or transport.config.attempts
        self._credentials = credentials
        self._scope = scope
        self._token: _Token | None = None
        self._basic = False

    def header(self) -> str | None:
        """Return the ``Authorization`` header to send; None: nothing was asked for so far."""
        if self._basic:
            return self._basic_header()
        if self._token is not None and self._token.expires > time.monotonic():
            return f"Bearer {self._token.value}"
        return None

    async def answer(self, headers: list[str], what: str) -> bool:
        """Take the challenges of a 401 answer; returns whether a new try makes sense.

        Args:
            headers: its ``WWW-Authenticate`` headers.
            what: the request, for errors.

        Raises:
            Unauthorized: the token service refused.
            RegistryUnreachable: the token service cannot be reached.
        """
        challenges = parse_challenges(headers)
        for challenge in challenges:
            if challenge.scheme == "bearer" and await self._bearer(challenge, what):
                return True
        for challenge in challenges:
            if challenge.scheme == "basic" and self._basic_header() and not self._basic:
                self._basic = True
                return True
        return False

    def _basic_header(self) -> str | None:
        pair = self._credentials.basic() if self._credentials is not None else None
        if pair is None:
            return None
        return "Basic " + base64.b64encode(f"{pair[0]}:{pair[1]}".encode()).decode()

    async def _bearer(self, challenge: Challenge, what: str) -> bool:
        credentials = self._credentials
        if credentials is not None and credentials.registry_token:
            first = self._token is None
            self._token = _Token(credentials.registry_token, float("inf"))
            return first
        realm = challenge.parameters.get("realm")
        if not realm:
            return False
        document = await self._ask(parse_url(realm), challenge.parameters.get("service", ""), what)
        self._token = _read_token(document, what)
        return True

    async def _ask(self, realm: URL, service: str, what: str) -> dict[str, Any]:
        credentials = self._credentials
        form = {"service": service, "scope": self._scope}
        if credentials is not None and credentials.identity_token:
            form |= {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "kubeletpy",
            }
            return await self._request("POST", realm, form, None, what)
        query = {key: value for key, value in form.items() if value}
        url = realm.extend_query(query)
        try:
            return await self._request("GET", url, None, self._basic_header(), what)
        except _NoGet:
            pair = credentials.basic() if credentials is not None else None
            if pair is None:
                raise
        # A service of OAuth 2 alone (oauth.md); it takes the password in a form.
        form |= {
            "grant_type": "password",
            "username": pair[0],
            "password": pair[1],
            "client_id": "kubeletpy",
        }
        return await self._request("POST", realm, form, None, what)

    async def _request(
        self, method: str, url: URL, form: dict[str, str] | None, authorization: str | None,
        what: str,
    ) -> dict[str, Any]:  # fmt: skip
        where = f"{what}: token service {url.origin()}"
        tries = Tries(self._transport.config, self._attempts)
        while True:
            retry_after = None
            try:
                # Redirects are not followed: the form holds a secret.
                async with self._transport.open(
                    method, url, registry=self._registry, endpoint=self._endpoint, headers={},
                    authorization=authorization, data=form, follow=False,
                ) as response:  # fmt: skip
                    if response.status == 200:
                        data = await self._transport.read(response, MAX_TOKEN_ANSWER, where)
                        return load_json(data, where)
                    why = await self._transport.complaint(response)
                    if not self._transport.retried(response.status):
                        kind = _NoGet if response.status in (404, 405) else Unauthorized
                        raise kind(f"{where} refused: {why}; {_remedy(self._credentials)}")
                    retry_after = response.headers.get("Retry-After")
            except CONNECTION_ERRORS as error:
                why = explain(error)
                if is_final(error) or is_away(error):
                    raise wrap(error, where) from None
            await self._transport.again(tries, where, why, retry_after)

    def refusal(self, what: str, complaint: str) -> Unauthorized:
        """Return the error for a 401 or 403 that stays."""
        return Unauthorized(f"{what}: {complaint}; {_remedy(self._credentials)}")


def _remedy(credentials: Credentials | None) -> str:
    if credentials is None:
        return "the image may not exist, or needs credentials: none were given"
    user = f" of {printable(credentials.username)!r}" if credentials.username else ""
    return f"the image may not exist, or the credentials{user} do not allow to pull it"


def _read_token(document: dict[str, Any], what: str) -> _Token:
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TOKEN:
        raise MalformedImage(f"{what}: the token service's answer holds no token")
    if not value.isascii() or not value.isprintable() or " " in value:
        # A line feed would let the service write headers of its own into our requests.
        raise MalformedImage(f"{what}: the token service's token is not a word")
    lifetime = document.get("expires_in")
    if type(lifetime) is not int or lifetime < _DEFAULT_LIFETIME:
        lifetime = _DEFAULT_LIFETIME
    seconds = min(lifetime, 24 * 3600) - _MARGIN_SECONDS
    return _Token(value, time.monotonic() + seconds)
