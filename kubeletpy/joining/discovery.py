"""Who a cluster is: its authority, by nothing but an address and a token.

As kubeadm does it: ``kube-public/cluster-info`` is fetched without any trust; its signature by the
token shows that who wrote it knows the token; the hash of the authority's key shows that it is the
authority that was meant; and then it is fetched again, by that authority. The token itself is never
sent before that.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from kubeletpy_common.apiclient.kubeconfig import Access
from kubeletpy_common.bootstrap_tokens import (
    INFO_NAME,
    INFO_NAMESPACE,
    KUBECONFIG_KEY,
    SIGNATURE_PREFIX,
    TOKEN,
    signature_holds,
    utc_text,
)
from kubeletpy_common.documents import DocumentError, parse

from .asking import Answer, ask, certificate_of
from .errors import JoinError

INFO_PATH: Final = f"/api/v1/namespaces/{INFO_NAMESPACE}/configmaps/{INFO_NAME}"
PORT: Final = 6443
"""Of an address without any."""
PATIENCE: Final = 10.0
"""Seconds for which a server that is not there yet, or has not signed yet, is asked again."""
_AGAIN: Final = 1.0
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE | re.ASCII)
_TRANSIENT: Final = ("unreachable", "refused", "token-unknown", "no-cluster-info", "starting")
_CREATE: Final = "make one on the server: kubeletpy token create --print-join-command"


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """A cluster that is the one that the token is of.

    Attributes:
        server: URL by which its nodes reach it.
        ca: its authority, PEM.
        asked: URL that was asked.
        ca_hash: ``sha256:`` and the hash of the authority's key.
        pinned: the authority was known before, by hash or file.
        skew: seconds by which the server's clock is ahead of ours; None: it did not say.
        notes: what should be known, for people.
    """

    server: str
    ca: bytes
    asked: str
    ca_hash: str
    pinned: bool = False
    skew: float | None = None
    notes: tuple[str, ...] = ()


async def discover(
    server: str,
    token: str,
    ca_hashes: Sequence[str] = (),
    ca_file: Path | None = None,
    *,
    patience: float = PATIENCE,
) -> Discovered:
    """Find out who a cluster is.

    Args:
        server: URL, or host and port, of its API server.
        token: bootstrap token of it.
        ca_hashes: ``sha256:<hex>``, of the SubjectPublicKeyInfo of its authority; any of them.
        ca_file: its authority, PEM; cluster-info may then be missing.
        patience: seconds for which it may be missing, or not signed yet.

    Raises:
        JoinError: it cannot be found out, or is not the one of the token, hash or file.
    """
    asked = server_url(server)
    identifier, key = split_token(token)
    pins = read_hashes(ca_hashes)
    given = _read(ca_file) if ca_file is not None else b""
    if given:
        check_hashes(given, pins, f"the authority in {ca_file}")
    access = Access(server=asked, ca=given, insecure=not given)
    try:
        data = await _patiently(access, identifier, patience)
    except JoinError as error:
        if given and error.kind in ("no-cluster-info", "token-unknown"):
            return await _by_file(access, error)
        raise
    what = f"GET {asked}{INFO_PATH}"
    content = data[KUBECONFIG_KEY]
    if not signature_holds(data[SIGNATURE_PREFIX + identifier], content, identifier, key):
        raise JoinError(
            "token-secret", what, f"cluster-info is not signed by the token {identifier}.*****: "
            "the token's second part is another one, or the server is not the one that it is of",
            f"Look at token and address; or {_CREATE}",
        )  # fmt: skip
    told, authority = cluster_of(content, what)
    if given and not _same(given, authority):
        raise JoinError(
            "untrusted", what, f"the cluster's authority is not the one in {ca_file}",
            "Look whether address and file are of the same cluster",
        )  # fmt: skip
    check_hashes(authority, pins, f"the authority that {asked} tells")
    verified = replace(access, ca=authority, insecure=False)
    again = await _ask(verified, INFO_PATH)
    if _data(again).get(KUBECONFIG_KEY) != content:
        raise JoinError(
            "untrusted", what, "cluster-info was another one when it was fetched again, verified",
            "Somebody between may have changed it; if it was changed just now, try again",
        )  # fmt: skip
    notes = [] if pins or given else [_unpinned(authority)]
    return await _reached(
        Discovered(
            server=told, ca=authority, asked=asked, ca_hash=public_key_hashes(authority)[0],
            pinned=bool(pins or given), skew=again.skew, notes=tuple(notes),
        )
    )  # fmt: skip


async def _patiently(access: Access, identifier: str, patience: float) -> Mapping[str, str]:
    """Return the data of cluster-info, signed by a token."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    while True:
        try:
            return _signed(await _ask(access, INFO_PATH), access.server, identifier)
        except JoinError as error:
            if error.kind not in _TRANSIENT or loop.time() + _AGAIN > until:
                raise
        # Who has no credentials cannot watch, only look again.
        await asyncio.sleep(_AGAIN)


def _signed(answer: Answer, server: str, identifier: str) -> Mapping[str, str]:
    what = f"GET {server}{INFO_PATH}"
    if answer.status in (401, 403):
        raise JoinError(
            "no-cluster-info", what, f"the server does not tell it without credentials "
            f"({answer.status})", "Have the server allow it (kubeadm init phase bootstrap-token; "
            "anonymous requests must not be off), or name its authority: --ca-file",
        )  # fmt: skip
    if answer.status == 404 and _is_kubernetes(answer):
        raise JoinError(
            "no-cluster-info", what, "the server publishes no cluster-info", "Have it published "
            "(kubeadm init phase bootstrap-token), or name the cluster's authority: --ca-file",
        )  # fmt: skip
    if answer.status in (429, 500, 502, 503, 504):
        raise JoinError("starting", what, f"the server is not ready ({answer.status})",
                        "Wait until it is, and look at its log")  # fmt: skip
    data = _data(answer)
    if answer.status != 200 or not _is_kubernetes(answer):
        raise JoinError(
            "not-kubernetes", what, f"the answer ({answer.status}) is not one of an API server",
            f"Look at address and port; {server} is something else",
        )  # fmt: skip
    if not data.get(KUBECONFIG_KEY):
        raise JoinError("no-cluster-info", what, f"cluster-info has no {KUBECONFIG_KEY}",
                        "Have it published anew: kubeadm init phase bootstrap-token")  # fmt: skip
    if not data.get(SIGNATURE_PREFIX + identifier):
        raise JoinError(
            "token-unknown", what, f"cluster-info is not signed by a token with the id "
            f"{identifier}: there is none, it has expired, or it is not for signing (and its "
            "signature takes a moment after it was made)", f"Look at it by kubeletpy token list; "
            f"{_CREATE}",
        )  # fmt: skip
    return data


async def _ask(access: Access, path: str) -> Answer:
    """Ask; a certificate that only the clock makes bad is told with the times of both machines."""
    try:
        return await ask(access, path)
    except JoinError as error:
        if error.kind != "clock":
            raise
        blind = await ask(replace(access, insecure=True), path)
        raise JoinError(
            "clock", f"GET {access.server}{path}",
            clock_text(await certificate_of(access.server), blind.skew), error.remedy,
        ) from error  # fmt: skip


async def _by_file(access: Access, error: JoinError) -> Discovered:
    """Do with a known authority alone: the server has shown a certificate of it."""
    answer = await _ask(access, "/version")
    return Discovered(
        server=access.server, ca=access.ca, asked=access.server,
        ca_hash=public_key_hashes(access.ca)[0], pinned=True, skew=answer.skew,
        notes=(f"cluster-info was not used ({error}); the authority is known by its file",),
    )  # fmt: skip


async def _reached(found: Discovered) -> Discovered:
    """Return it with a server that this machine reaches: the one told, or else the one asked."""
    if found.server == found.asked:
        return found
    try:
        await _ask(Access(server=found.server, ca=found.ca), INFO_PATH)
    except JoinError as error:
        note = (
            f"the cluster tells {found.server} as its address, which this machine cannot use "
            f"({error}); {found.asked} is used"
        )
        return replace(found, server=found.asked, notes=(*found.notes, note))
    return found


def server_url(text: str) -> str:
    """Return the URL of a server that is named by URL, or by host and port (pure).

    Raises:
        JoinError: it is neither.
    """
    bare = text.strip().rstrip("/")
    if ":" in bare and _is_address(bare):
        bare = f"[{bare}]"
    named = bare if "://" in bare else f"https://{bare}"
    try:
        parts = urlsplit(named)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "https" or parts.path or parts.query or parts.username:
        raise JoinError("input", f"server {text!r}", "is no address of an API server",
                        "Give one such as https://192.0.2.10:6443")  # fmt: skip
    if port is None:
        port = 443 if "://" in bare else PORT
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def split_token(token: str) -> tuple[str, str]:
    """Return id and secret of a token (pure).

    Raises:
        JoinError: it is none; the text does not hold it.
    """
    match = TOKEN.fullmatch(token)
    if match is None:
        raise JoinError(
            "input", "the token", "is not of the form [a-z0-9]{6}.[a-z0-9]{16}, such as "
            "abcdef.0123456789abcdef", f"Look whether it was copied whole; or {_CREATE}",
        )  # fmt: skip
    return match[1], match[2]


def read_hashes(texts: Sequence[str]) -> frozenset[str]:
    """Return the hashes of public keys, in lower case (pure).

    Raises:
        JoinError: one is none.
    """
    for text in texts:
        if not _HASH.fullmatch(text):
            raise JoinError(
                "input", f"the hash {text!r}", "is not sha256: and 64 hexadecimal digits",
                "Take the one that kubeletpy token create --print-join-command prints",
            )  # fmt: skip
    return frozenset(text.lower() for text in texts)


def public_key_hashes(authority: bytes) -> list[str]:
    """Return ``sha256:<hex>`` of the public key (SubjectPublicKeyInfo) of each certificate (pure).

    Raises:
        JoinError: there is no certificate.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        found = x509.load_pem_x509_certificates(authority)
    except ValueError as error:
        raise JoinError("input", "the cluster's authority", f"is no certificate ({error})",
                        "Give certificates in PEM") from error  # fmt: skip
    keys = (
        one.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for one in found
    )
    return [f"sha256:{hashlib.sha256(key).hexdigest()}" for key in keys]


def check_hashes(authority: bytes, pins: frozenset[str], what: str) -> None:
    """Look whether an authority is one that was meant (pure); without hashes any is.

    Raises:
        JoinError: it is not.
    """
    found = public_key_hashes(authority)
    if pins and not pins & set(found):
        raise JoinError(
            "hash", what, f"its key has the hash {', '.join(found)}, and {', '.join(sorted(pins))} "
            "was given", "Do not go on unless you know why: another server may answer at this "
            "address. The right hash is printed on the server by kubeletpy token create "
            "--print-join-command",
        )  # fmt: skip


def cluster_of(content: str, what: str) -> tuple[str, bytes]:
    """Return server and authority of the kubeconfig in cluster-info (pure).

    Raises:
        JoinError: it has none.
    """
    try:
        document: Any = parse(content.encode())
        clusters = {one.get("name", ""): one["cluster"] for one in document["clusters"]}
        contexts = {one["name"]: one["context"] for one in document.get("contexts") or ()}
        named = contexts.get(document.get("current-context") or "", {}).get("cluster", "")
        cluster = clusters[named] if named in clusters else next(iter(clusters.values()))
        authority = base64.b64decode(cluster["certificate-authority-data"], validate=True)
        return server_url(cluster["server"]), authority
    except (DocumentError, LookupError, StopIteration, TypeError, AttributeError,
            binascii.Error) as error:  # fmt: skip
        raise JoinError(
            "no-cluster-info", what, "its kubeconfig has no cluster with a server and a "
            f"certificate-authority-data ({type(error).__name__})",
            "Have it published anew: kubeadm init phase bootstrap-token",
        ) from error  # fmt: skip


def clock_text(certificate: bytes, skew: float | None, now: datetime | None = None) -> str:
    """Return why a clock does not fit a certificate: all times in question (pure).

    Args:
        certificate: of the server, DER.
        skew: seconds by which its clock is ahead; None: unknown.
        now: our time; None: this moment.
    """
    from cryptography import x509

    here = now or datetime.now(UTC)
    found = x509.load_der_x509_certificate(certificate)
    there = "" if skew is None else f", the server's {utc_text(here + timedelta(seconds=skew))}"
    return (
        f"the server's certificate is good from {utc_text(found.not_valid_before_utc)} to "
        f"{utc_text(found.not_valid_after_utc)}; this machine's clock says {utc_text(here)}{there}"
    )


def _unpinned(authority: bytes) -> str:
    return (
        "the cluster's authority is believed because the token signed it; whoever else knows the "
        "token could pose as the server. Safer: --ca-cert-hash "
        f"{public_key_hashes(authority)[0]}, after comparing it with the server's"
    )


def _same(first: bytes, second: bytes) -> bool:
    return bool(set(public_key_hashes(first)) & set(public_key_hashes(second)))


def _data(answer: Answer) -> Mapping[str, str]:
    found = answer.body.get("data") if isinstance(answer.body, dict) else None
    if not isinstance(found, dict):
        return {}
    return {key: text for key, text in found.items() if isinstance(text, str)}


def _is_kubernetes(answer: Answer) -> bool:
    body = answer.body
    return isinstance(body, dict) and body.get("kind") in ("ConfigMap", "Status")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JoinError("input", f"the authority in {path}", f"cannot be read ({error.strerror})",
                        "Name a file with certificates in PEM") from error  # fmt: skip
