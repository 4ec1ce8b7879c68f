"""Events of requests, at their stages.

Source: Kubernetes documentation, "Auditing"; audit.k8s.io/v1 Event.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler as HttpHandler
from aiohttp.typedefs import Middleware

from controlplane.api.errors import ApiError
from controlplane.api.identity import User
from controlplane.auth.audit.log import AuditLog
from controlplane.auth.audit.policy import Decision, Policy
from controlplane.auth.authorization.attributes import Attributes, attributes_of
from controlplane.auth.reviews import user_info
from controlplane.server.keys import INFO, USER

_LONG: Final = frozenset(("exec", "attach", "portforward", "proxy", "log"))
_WITH_BODY: Final = frozenset(("create", "update", "patch", "delete", "deletecollection"))
# Nobody that is known; of whom a failed authentication tells nothing.
_NOBODY: Final = User("")

STARTED: Final = web.RequestKey["_Record"]("audit")
"""The record of a request, for what happens before it has ended."""


class _Record:
    """What is known of a request so far."""

    __slots__ = ("decision", "event", "long")

    def __init__(self, event: dict[str, Any], decision: Decision, *, long: bool) -> None:
        self.event = event
        self.decision = decision
        self.long = long


class Auditor:
    """Makes events of requests.

    Args:
        policy: what is logged.
        log: where.
    """

    def __init__(self, policy: Policy, log: AuditLog) -> None:
        self._policy = policy
        self._log = log

    def middleware(self) -> Middleware:
        """Return what stands between authentication and authorization."""

        @web.middleware
        async def audit(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
            record = await self._begin(request, request[USER])
            if record is None:
                return await handler(request)
            request[STARTED] = record
            self._emit(record, "RequestReceived")
            try:
                answer = await handler(request)
            except ApiError as error:
                self._end(request, record, error.code, error.to_status())
                raise
            except Exception:
                self._end(request, record, 500, None)
                raise
            except BaseException:
                # The client has gone, or the server ends.
                self._end(request, record, 0, None)
                raise
            content = answer.body if isinstance(answer, web.Response) else None
            body = content if isinstance(content, bytes) else None
            self._end(request, record, answer.status, _decoded(body))
            return answer

        return audit

    async def prepared(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Take note that the head of an answer goes out; for aiohttp's signal."""
        record = request.get(STARTED)
        if record is None:
            return
        answer.headers["Audit-Id"] = record.event["auditID"]
        if record.long:
            status = {"metadata": {}, "code": answer.status}
            self._emit(record, "ResponseStarted", responseStatus=status)

    async def refused(self, request: web.Request, error: ApiError) -> None:
        """Take note of a request of nobody that is known."""
        record = await self._begin(request, _NOBODY)
        if record is not None:
            self._end(request, record, error.code, error.to_status())

    async def _begin(self, request: web.Request, user: User) -> _Record | None:
        info = request[INFO]
        wanted = attributes_of(request, info, user)
        decision = self._policy.decide(wanted)
        if decision.level == "None":
            return None
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": decision.level,
            "auditID": str(uuid.uuid4()),
            "requestURI": request.raw_path,
            "verb": wanted.verb,
            "user": user_info(user),
            "sourceIPs": [request.remote] if request.remote else [],
            "userAgent": request.headers.get("User-Agent", "")[:1024],
            "requestReceivedTimestamp": _now(),
        }
        if wanted.resource:
            event["objectRef"] = _reference(wanted)
        long = wanted.verb == "watch" or wanted.subresource in _LONG
        if (
            decision.level in ("Request", "RequestResponse")
            and wanted.verb in _WITH_BODY
            and not long
            and user is not _NOBODY
        ):
            body = _decoded(await _body(request))
            if body is not None:
                event["requestObject"] = _bare(body) if decision.without_managers else body
        return _Record(event, decision, long=long)

    def _end(
        self, request: web.Request, record: _Record, code: int, body: dict[str, Any] | None
    ) -> None:
        more: dict[str, Any] = {}
        if code:
            more["responseStatus"] = _status(code, body)
        user = request.get(USER)
        if user is not None and user_info(user) != record.event["user"]:
            more["impersonatedUser"] = user_info(user)
        if record.decision.level == "RequestResponse" and body is not None:
            more["responseObject"] = _bare(body) if record.decision.without_managers else body
        if user is not None:
            decision = "forbid" if code == 403 else "allow"
            more["annotations"] = {"authorization.k8s.io/decision": decision}
        self._emit(record, "ResponseComplete", **more)

    def _emit(self, record: _Record, stage: str, **more: Any) -> None:
        if stage not in record.decision.omitted:
            event = {**record.event, "stage": stage, "stageTimestamp": _now(), **more}
            self._log.add(event)


def _status(code: int, body: Mapping[str, Any] | None) -> dict[str, Any]:
    status: dict[str, Any] = {"metadata": {}, "code": code}
    if body is not None and body.get("kind") == "Status" and code >= 400:
        kept = ("status", "message", "reason", "details")
        status |= {key: body[key] for key in kept if key in body}
    return status


def _reference(wanted: Attributes) -> dict[str, str]:
    fields = {
        "resource": wanted.resource,
        "namespace": wanted.namespace,
        "name": wanted.name,
        "apiGroup": wanted.group,
        "apiVersion": wanted.version,
        "subresource": wanted.subresource,
    }
    return {key: value for key, value in fields.items() if value}


async def _body(request: web.Request) -> bytes | None:
    if request.content_type not in ("application/json", "application/merge-patch+json",
                                    "application/strategic-merge-patch+json"):  # fmt: skip
        return None
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        # Whoever reads it next says so.
        return None


def _decoded(content: bytes | None) -> dict[str, Any] | None:
    if not content or content[:1] != b"{":
        return None
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _bare(value: dict[str, Any]) -> dict[str, Any]:
    meta = value.get("metadata")
    if not isinstance(meta, dict):
        return value
    kept = {key: item for key, item in meta.items() if key != "managedFields"}
    return {**value, "metadata": kept}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
