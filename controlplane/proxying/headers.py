"""Headers of requests and answers that are passed on (pure).

Source: RFC 9110, sections 7.6.1 and 7.8; RFC 6455, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

Headers = list[tuple[str, str]]

# Of one connection only.
_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
     "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
# Who asks is between the client and us; a backend must not be able to ask in its name.
_SECRET: Final = ("authorization", "impersonate-", "x-remote-")
_BEARER: Final = "base64url.bearer.authorization.k8s.io."
_WEBSOCKET_PROTOCOL: Final = "sec-websocket-protocol"


def request_headers(
    headers: Iterable[tuple[str, str]], peer: str, *, upgrade: bool = False
) -> Headers:
    """Return the headers that a request goes on with, without its ``Host``.

    Args:
        headers: as they came.
        peer: address that they came from.
        upgrade: of the connection; then what is of the connection stays.
    """
    listed = list(headers)
    dropped = {"host"} if upgrade else {"host", *_HOP, *_named_by_connection(listed)}
    kept: Headers = []
    forwarded = [value for name, value in listed if name.lower() == "x-forwarded-for"]
    for name, value in listed:
        lower = name.lower()
        if lower in dropped or lower.startswith(_SECRET) or lower == "x-forwarded-for":
            continue
        if lower == _WEBSOCKET_PROTOCOL:
            value = _without_token(value)
            if not value:
                continue
        kept.append((name, value))
    if peer:
        kept.append(("X-Forwarded-For", ", ".join([*forwarded, peer])))
    return kept


def answer_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers that an answer comes back with."""
    listed = list(headers)
    dropped = {*_HOP, *_named_by_connection(listed)}
    return [(name, value) for name, value in listed if name.lower() not in dropped]


def rewrite_location(location: str, prefix: str, hosts: tuple[str, ...]) -> str:
    """Return a ``Location`` that leads through the proxy again.

    Args:
        location: as the backend gave it.
        prefix: path of the proxy here, without a slash at its end.
        hosts: that stand for the backend; others are left alone.
    """
    parts = urlsplit(location)
    if (parts.netloc and parts.netloc not in hosts) or not parts.path.startswith("/"):
        return location
    if parts.path.startswith(f"{prefix}/"):
        return location
    return urlunsplit(("", "", f"{prefix}{parts.path}", parts.query, parts.fragment))


def is_upgrade(headers: Iterable[tuple[str, str]]) -> bool:
    """Say whether a request asks for another protocol."""
    listed = [(name.lower(), value) for name, value in headers]
    asks = any(
        "upgrade" in (token.strip().lower() for token in value.split(","))
        for name, value in listed
        if name == "connection"
    )
    return asks and any(name == "upgrade" and value for name, value in listed)


def _named_by_connection(headers: Headers) -> set[str]:
    return {
        token.strip().lower()
        for name, value in headers
        if name.lower() == "connection"
        for token in value.split(",")
    }


def _without_token(value: str) -> str:
    protocols = [one.strip() for one in value.split(",")]
    return ", ".join(one for one in protocols if not one.startswith(_BEARER))
