"""TokenRequest: a token for a service account, bound to whatever uses it (KEP-1205).

Source: authentication.k8s.io/v1 TokenRequest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from controlplane.api import codec
from controlplane.api.errors import bad_request, conflict, invalid
from controlplane.api.metadata import now, wrong
from controlplane.api.resource import Context, Object
from controlplane.auth.tokens.claims import Bound, make_claims
from controlplane.auth.tokens.issuer import TokenIssuer
from controlplane.kinds.types import WrongTypeError
from controlplane.plane import Call, Plane
from controlplane.server.answers import respond
from controlplane.server.body import read_body

_GROUP: Final = "authentication.k8s.io"
_LEAST_SECONDS: Final = 600
_MOST_SECONDS: Final = 1 << 32
DEFAULT_SECONDS: Final = 3600
# What kubelets ask for on behalf of pods that never asked: such a token is good for a year, and
# its use after the hour is noted (KEP-1205, "Safe Rollout of Time-bound Token").
_INJECTED_SECONDS: Final = 3607
_EXTENDED_SECONDS: Final = 365 * 86_400
_BINDABLE: Final = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


TokenCheck = Callable[[Context, Object], None]
"""Refuses a request, by its user and its ``spec``, with an ApiError."""


async def serve_token_request(
    issuer: TokenIssuer, checks: Sequence[TokenCheck], call: Call
) -> web.Response:
    """Answer ``POST serviceaccounts/<name>/token``.

    Args:
        issuer: makes the token.
        checks: of the request, once it is known to make sense.
        call: the request.

    Raises:
        ApiError: there is no such account or object, or the request makes no sense.
    """
    plane, context = call.plane, call.context
    body = await read_body(call.request, plane.registry.types.kinds)
    value = clean(plane, "authentication.v1.TokenRequest", body)
    account = _get(plane, "serviceaccounts", context.namespace, context.name)["metadata"]
    spec = value.setdefault("spec", {})
    _check_meta(value.setdefault("metadata", {}), account, context)
    seconds = spec.setdefault("expirationSeconds", DEFAULT_SECONDS)
    _check_seconds(seconds)
    bound = _bound(plane, spec.get("boundObjectRef"), context)
    for check in checks:
        check(context, spec)
    # After the checks: what a kubelet may ask for depends on what it named itself.
    audiences = spec.get("audiences") or [issuer.issuer]
    spec["audiences"] = audiences
    warn_after, life = 0, seconds
    if "pod" in bound and seconds == _INJECTED_SECONDS and audiences == [issuer.issuer]:
        warn_after, life = seconds, _EXTENDED_SECONDS
    moment = time.time()
    claims = make_claims(
        account, audiences, issuer.issuer, life, bound, warn_after=warn_after, now=moment
    )
    value["metadata"] |= {
        "name": account["name"], "namespace": account["namespace"], "creationTimestamp": now(),
    }  # fmt: skip
    end = datetime.fromtimestamp(int(moment) + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    value["status"] = {"token": issuer.sign(claims), "expirationTimestamp": end}
    made = {"kind": "TokenRequest", "apiVersion": f"{_GROUP}/v1", **value}
    return respond(made, status=201)


def clean(plane: Plane, type_name: str, body: Any) -> Object:
    """Return the object of a request that is answered and not kept.

    Raises:
        ApiError: it is none, or has values of wrong types.
    """
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    try:
        value, _ = plane.registry.types.clean(type_name, body)
    except WrongTypeError as error:
        raise bad_request(f"{type_name.rpartition('.')[2]} cannot be handled: {error}") from error
    return value


def _check_meta(meta: Object, account: Object, context: Context) -> None:
    name = context.name
    for key, expected in (("name", name), ("namespace", context.namespace)):
        if meta.get(key) and meta[key] != expected:
            text = f"must match the service account {key} if specified"
            cause = wrong(f"metadata.{key}", meta[key], text)
            raise invalid("TokenRequest", _GROUP, name, [cause])
    if meta.get("uid") and meta["uid"] != account["uid"]:
        why = (
            f"the UID in the token request ({meta['uid']}) does not match the UID of the service "
            f"account ({account['uid']})"
        )
        raise conflict("TokenRequest", _GROUP, name, why)
    meta["uid"] = account["uid"]


def _check_seconds(seconds: int) -> None:
    text = ""
    if seconds < _LEAST_SECONDS:
        text = "may not specify a duration less than 10 minutes"
    elif seconds > _MOST_SECONDS:
        text = "may not specify a duration larger than 2^32 seconds"
    if text:
        cause = wrong("spec.expirationSeconds", seconds, text)
        raise invalid("TokenRequest", _GROUP, "", [cause])


def _bound(plane: Plane, reference: Object | None, context: Context) -> dict[str, Bound]:
    if not reference:
        return {}
    kind, name = reference.get("kind", ""), reference.get("name", "")
    if reference.get("apiVersion", "v1") != "v1" or kind not in _BINDABLE:
        version = reference.get("apiVersion", "")
        group, _, number = version.rpartition("/")
        raise bad_request(f"cannot bind token to object of type {group}/{number}, Kind={kind}")
    namespace = "" if kind == "Node" else context.namespace
    value = _get(plane, _BINDABLE[kind], namespace, name)
    uid = value["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        why = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in "
            "record. The object might have been deleted and then recreated"
        )
        raise conflict(kind, "", name, why)
    bound = {kind.lower(): Bound(name, uid)}
    if kind != "Pod":
        return bound
    spec = value.get("spec", {})
    if spec.get("serviceAccountName") != context.name:
        raise bad_request(
            f'cannot bind token for serviceaccount "{context.name}" to pod running with different '
            "serviceaccount name."
        )
    if spec.get("nodeName"):
        item = plane.store.get(f"/core/nodes/{spec['nodeName']}")
        node_uid = "" if item is None else codec.decode(item)["metadata"]["uid"]
        bound["node"] = Bound(spec["nodeName"], node_uid)
    return bound


def _get(plane: Plane, plural: str, namespace: str, name: str) -> Object:
    resource = plane.catalog.find("", "v1", plural)
    assert resource is not None
    return codec.decode(plane.registry.get(resource, namespace, name))
