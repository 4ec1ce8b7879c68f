"""Who asks, and whether that is allowed: the API server is asked (delegation).

Source: Kubernetes documentation, "Configure the Aggregation Layer": an extension server takes the
word of who shows a certificate of the front proxy, knows users of the cluster by certificates and
by TokenReview, and asks what they may by SubjectAccessReview.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from aiohttp import web

from controlplane.engine.controller import monotonic
from controlplane.engine.resources import Object
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.client_certificates import named_by

TRUST_NAMESPACE: Final = "kube-system"
TRUST_NAME: Final = "extension-apiserver-authentication"
TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_HOLDS: Final = 10.0
_CAPACITY: Final = 4096
_LONGEST_TOKEN: Final = 64 << 10
_SECONDS: Final = 10.0
_MASTERS: Final = "system:masters"
_AUTHENTICATED: Final = "system:authenticated"
Answer = TypeVar("Answer")


class RefusedError(Exception):
    """A request is not served.

    Attributes:
        status: of HTTP.
        reason: StatusReason.
    """

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What is wanted.

    Attributes:
        verb: ``get`` or ``list``; of paths: the HTTP method in small letters.
        path: of the URL, if it is no resource's.
        group, version, resource, subresource, namespace, name: of a resource.
    """

    verb: str
    path: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose word is taken, as the ConfigMap of the API server says.

    Attributes:
        clients: PEM of authorities of users.
        proxies: PEM of authorities of front proxies.
        names: that a front proxy may have; empty: any.
        users, uids, groups, extras: names of headers; of extras their beginnings.
    """

    clients: str = ""
    proxies: str = ""
    names: tuple[str, ...] = ()
    users: tuple[str, ...] = ("X-Remote-User",)
    uids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Object | None) -> Trust:
        """Return what a ConfigMap says; without one nobody's word is taken (pure)."""
        data = (value or {}).get("data") or {}

        def listed(name: str) -> tuple[str, ...]:
            try:
                found = json.loads(data.get(name) or "[]")
            except ValueError:
                return ()
            return tuple(str(one) for one in found) if isinstance(found, list) else ()

        return cls(
            data.get("client-ca-file", ""), data.get("requestheader-client-ca-file", ""),
            listed("requestheader-allowed-names"), listed("requestheader-username-headers"),
            listed("requestheader-uid-headers"), listed("requestheader-group-headers"),
            listed("requestheader-extra-headers-prefix"),
        )  # fmt: skip


def user_of_headers(headers: Any, trust: Trust) -> User | None:
    """Return in whose name a front proxy asks; None: in nobody's (pure).

    Args:
        headers: of the request, a multidict.
        trust: says which headers count.
    """
    name = next((headers[one] for one in trust.users if headers.get(one)), "")
    if not name:
        return None
    uid = next((headers[one] for one in trust.uids if headers.get(one)), "")
    groups = [value for one in trust.groups for value in headers.getall(one, [])]
    extra: dict[str, list[str]] = {}
    for key, value in headers.items():
        for prefix in trust.extras:
            if key.lower().startswith(prefix.lower()):
                extra.setdefault(unquote(key[len(prefix) :].lower()), []).append(value)
    return User(name, uid, tuple(groups), _frozen(extra))


class Access:
    """Knows who asks, and what he may.

    Args:
        client: of the API server.

    Attributes:
        trust: whose word is taken.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.trust = Trust()
        self._known: WeakKeyDictionary[ssl.SSLObject, tuple[Trust, Shown | None]] = (
            WeakKeyDictionary()
        )
        self._tokens: _Cache[User | None] = _Cache()
        self._allowed: _Cache[bool] = _Cache()

    async def user(self, request: web.Request) -> User:
        """Return who asks.

        Raises:
            RefusedError: nobody that is known, or nobody knows now.
        """
        shown = self._shown(request)
        user: User | None = None
        if shown is not None and shown.is_proxy:
            user = user_of_headers(request.headers, self.trust)
        elif shown is not None:
            user = shown.user
        if user is None:
            user = await self._by_token(request.headers.get("Authorization", ""))
        if user is None:
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        if _AUTHENTICATED not in user.groups:
            user = replace(user, groups=(*user.groups, _AUTHENTICATED))
        return user

    async def require(self, user: User, action: Action) -> None:
        """Refuse what is not allowed.

        Raises:
            RefusedError: it is not, or nobody knows now.
        """
        if _MASTERS in user.groups:
            return
        key = (user, action)
        allowed = self._allowed.get(key)
        if allowed is None:
            status = await self._review(ACCESS, "authorization.k8s.io/v1", "SubjectAccessReview",
                                        access_spec(user, action))  # fmt: skip
            allowed = status.get("allowed") is True and status.get("denied") is not True
            self._allowed.put(key, allowed)
        if not allowed:
            what = action.path or f"{action.resource}.{action.group}"
            raise RefusedError(
                403, "Forbidden",
                f'{what} is forbidden: User "{user.name}" cannot {action.verb} it '
                + (f'in the namespace "{action.namespace}"' if action.namespace else
                   "at the cluster scope"),
            )  # fmt: skip

    def _shown(self, request: web.Request) -> Shown | None:
        """Return whom the certificate of a connection shows; it is verified by TLS already."""
        transport = request.transport
        connection = None if transport is None else transport.get_extra_info("ssl_object")
        if connection is None:
            return None
        found = self._known.get(connection)
        if found is None or found[0] != self.trust:
            found = self._known[connection] = (self.trust, shown_by(connection, self.trust))
        shown = found[1]
        return shown if shown is not None and shown.end > time.time() else None

    async def _by_token(self, header: str) -> User | None:
        scheme, _, token = header.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN:
            return None
        # A dump of our memory shall not show tokens.
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if key in self._tokens:
            return self._tokens.get(key)
        status = await self._review(
            TOKENS, "authentication.k8s.io/v1", "TokenReview", {"token": token}
        )
        user = None
        if status.get("authenticated") is True:
            told = status.get("user") or {}
            extra = {str(name): list(values or ()) for name, values in
                     (told.get("extra") or {}).items()}  # fmt: skip
            user = User(told.get("username", ""), told.get("uid", ""),
                        tuple(told.get("groups") or ()), _frozen(extra))  # fmt: skip
        self._tokens.put(key, user)
        return user

    async def _review(
        self, path: str, version: str, kind: str, spec: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        body = {"apiVersion": version, "kind": kind, "spec": spec}
        try:
            answer = await self._client.request("POST", path, body, timeout=_SECONDS, urgent=True)
        except ApiError as error:
            text = f"the API server does not answer a {kind}: {error.message}"
            raise RefusedError(500, "InternalError", text) from error
        status = answer.get("status")
        return status if isinstance(status, dict) else {}


@dataclass(frozen=True, slots=True)
class Shown:
    """Whom a certificate shows.

    Attributes:
        is_proxy: a front proxy, whose headers say in whose name it asks.
        user: another one.
        end: of the certificate, seconds since the epoch.
    """

    is_proxy: bool
    user: User | None
    end: float


def shown_by(connection: ssl.SSLObject, trust: Trust) -> Shown | None:
    """Return whom the certificate of a connection shows; None: nobody that counts."""
    verified, content = connection.getpeercert(), connection.getpeercert(True)
    if not verified or not content:
        return None
    named = named_by(verified, hashlib.sha256(content).hexdigest())
    if named is None:
        return None
    end = ssl.cert_time_to_seconds(str(verified["notAfter"]))
    # TLS knows both authorities, and does not tell by which of them it is verified.
    # One authority may be both; then the name tells.
    may_be_proxy = not trust.names or named.name in trust.names
    if may_be_proxy and is_issued(content, trust.proxies):
        return Shown(True, None, end)
    if is_issued(content, trust.clients):
        return Shown(False, User(named.name, "", named.groups, _frozen(named.extra)), end)
    return None


def is_issued(certificate: bytes, bundle: str) -> bool:
    """Whether one of the authorities of a bundle has issued a certificate (DER) itself (pure)."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        leaf = x509.load_der_x509_certificate(certificate)
        authorities = x509.load_pem_x509_certificates(bundle.encode())
    except ValueError:
        return False
    for each in authorities:
        try:
            leaf.verify_directly_issued_by(each)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def access_spec(user: User, action: Action) -> dict[str, Any]:
    """Return the spec of a SubjectAccessReview (pure)."""
    spec: dict[str, Any] = {"user": user.name, "groups": list(user.groups)}
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra}
    if action.path:
        spec["nonResourceAttributes"] = {"path": action.path, "verb": action.verb}
        return spec
    attributes = {
        "verb": action.verb, "group": action.group, "version": action.version,
        "resource": action.resource, "subresource": action.subresource,
        "namespace": action.namespace, "name": action.name,
    }  # fmt: skip
    spec["resourceAttributes"] = {key: text for key, text in attributes.items() if text}
    return spec


def _frozen(extra: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(sorted((key, tuple(values)) for key, values in extra.items()))


@dataclass(slots=True)
class _Cache(Generic[Answer]):
    """Answers for some seconds, the newest of them."""

    answers: OrderedDict[Any, tuple[float, Answer]] = field(default_factory=OrderedDict)

    def __contains__(self, key: object) -> bool:
        found = self.answers.get(key)
        return found is not None and found[0] > monotonic()

    def get(self, key: object) -> Answer | None:
        return self.answers[key][1] if key in self else None

    def put(self, key: object, answer: Answer) -> None:
        self.answers[key] = (monotonic() + _HOLDS, answer)
        self.answers.move_to_end(key)
        while len(self.answers) > _CAPACITY:
            self.answers.popitem(last=False)
