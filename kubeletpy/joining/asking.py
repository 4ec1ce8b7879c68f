"""One question to an API server that may be anything; what goes wrong is told in words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from kubeletpy_common.apiclient.kubeconfig import Access, KubeconfigError
from kubeletpy_common.bootstrap_tokens import utc_text

from .errors import JoinError

TIMEOUT: Final = 10.0
"""Seconds for one question."""
_LARGEST: Final = 4 * 1024 * 1024
_AGENT: Final = "kubeletpy-join/1.36"
_TIME_CODES: Final = {9: "not valid yet", 10: "over"}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_NAME_CODES: Final = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
SET_CLOCK: Final = (
    "Set the clocks of both machines, best by NTP (timedatectl set-ntp true; chronyc makestep)"
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP.
        body: the decoded JSON; None: it is none.
        skew: seconds by which the server's clock is ahead of ours (from its Date header, which has
            whole seconds); None: it did not say.
    """

    status: int
    body: Any
    skew: float | None = None


async def ask(
    access: Access, path: str, *, body: object | None = None, timeout: float = TIMEOUT
) -> Answer:
    """GET a path, or POST ``body`` to it.

    Args:
        access: whom to ask, and as whom.
        path: as ``/version``.
        body: plain data.
        timeout: seconds.

    Raises:
        JoinError: there is no answer, or none that can be believed.
    """
    method = "GET" if body is None else "POST"
    try:
        context, token = access.ssl_context(), access.bearer()
    except KubeconfigError as error:
        raise JoinError("input", f"{method} {access.server}{path}", str(error),
                        "Give certificates in PEM") from error  # fmt: skip
    headers = {"User-Agent": _AGENT, "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None
    if body is not None:
        data, headers["Content-Type"] = msgspec.json.encode(body), "application/json"
    begun = time.time()
    try:
        async with asyncio.timeout(timeout):
            connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
            async with (
                aiohttp.ClientSession(connector=connector, trust_env=False) as session,
                session.request(
                    method, URL(access.server + path, encoded=True), data=data, headers=headers,
                    allow_redirects=False, server_hostname=access.server_name or None,
                ) as answer,
            ):  # fmt: skip
                raw = await answer.content.read(_LARGEST)
                while len(raw) < _LARGEST and (more := await answer.content.read(_LARGEST)):
                    raw += more
                skew = skew_of(answer.headers.get("Date", ""), (begun + time.time()) / 2)
                return Answer(status=answer.status, body=_decoded(raw), skew=skew)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise unreachable(f"{method} {access.server}{path}", access.server, error) from error


async def certificate_of(server: str, *, timeout: float = TIMEOUT) -> bytes:
    """Return the certificate that a server shows, DER; nothing is verified.

    Raises:
        JoinError: there is none.
    """
    parts = urlsplit(server)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    except (OSError, ValueError) as error:
        raise unreachable(f"connect to {server}", server, error) from error
    try:
        return bytes(writer.get_extra_info("ssl_object").getpeercert(True))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def skew_of(date: str, local: float) -> float | None:
    """Return by how many seconds a server's clock is ahead (pure); None: it does not say.

    Args:
        date: its Date header (RFC 9110, section 6.6.1).
        local: our time when it was made, seconds of the epoch.
    """
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    # The header has whole seconds: on average it is half a one behind.
    return moment.timestamp() + 0.5 - local


def unreachable(what: str, server: str, error: BaseException) -> JoinError:
    """Return what to tell of a request that failed (pure).

    Args:
        what: the request.
        server: URL.
        error: as aiohttp, ssl or the system raised it.
    """
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return _not_verified(what, server, root)
    if isinstance(root, ssl.SSLError) and not isinstance(root, ssl.SSLEOFError):
        return JoinError(
            "not-tls", what, f"what listens there speaks no TLS that is understood "
            f"({getattr(root, 'reason', None) or root})",
            f"Look at the address and port of the API server; {server} is something else",
        )  # fmt: skip
    if isinstance(root, socket.gaierror):
        return JoinError(
            "unreachable", what, f"the name {urlsplit(server).hostname} has no address "
            f"({root.strerror})", "Give an IP address, or a name that this machine resolves",
        )  # fmt: skip
    number = root.errno if isinstance(root, OSError) else None
    if number == errno.ECONNREFUSED:
        return JoinError(
            "refused", what, "nothing listens there (connection refused)",
            "Look whether the API server runs, on this port, and is bound to an address that other "
            "machines reach (--bind-address; 127.0.0.1 is its own machine only)",
        )  # fmt: skip
    if isinstance(root, TimeoutError) or number in (errno.ETIMEDOUT, errno.EHOSTUNREACH,
                                                    errno.ENETUNREACH):  # fmt: skip
        why = "no answer in time" if isinstance(root, TimeoutError) else str(root)
        return JoinError(
            "unreachable", what, why,
            "Look at the address, at the route to it (ip route get), and at firewalls between, "
            "which must let TCP through to this port",
        )  # fmt: skip
    if isinstance(root, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return JoinError(
            "not-kubernetes", what, f"what listens there speaks no HTTP ({root})",
            f"Look at the address and port of the API server; {server} is something else",
        )  # fmt: skip
    text = str(root) or type(root).__name__
    return JoinError(
        "unreachable", what, text,
        "Look whether an API server is at this address, and at its log",
    )  # fmt: skip


def _not_verified(what: str, server: str, error: ssl.SSLCertVerificationError) -> JoinError:
    code = error.verify_code
    if code in _TIME_CODES:
        return JoinError(
            "clock", what, f"the server's certificate is {_TIME_CODES[code]} by this machine's "
            f"clock, which says {utc_text(datetime.now(UTC))}",
            f"{SET_CLOCK}; if the clocks are right, renew the server's certificate",
        )  # fmt: skip
    if code in _NAME_CODES:
        host = urlsplit(server).hostname
        return JoinError(
            "untrusted", what, f"the server's certificate is not for {host} "
            f"({error.verify_message})", "Use an address that it holds, or have it made for this "
            f"one: kubeletpy apiserver --tls-san {host} (kubeadm: apiServer.certSANs)",
        )  # fmt: skip
    return JoinError(
        "untrusted", what, "the server's certificate is not of this cluster's authority "
        f"({error.verify_message})", "Another server answers at this address, or somebody between: "
        "look at the address, at proxies and load balancers that end TLS, and at the authority",
    )  # fmt: skip


def _root(error: BaseException) -> BaseException:
    """Return what the network or the TLS library raised."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    return error


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
