"""What somebody wants to do, and the words that refuse it (pure).

Source: Kubernetes documentation, "Authorization", "Request attributes used in authorization".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from controlplane.api.errors import ApiError
from controlplane.api.identity import User
from controlplane.api.selectors import parse_fields
from controlplane.server.request import RequestInfo

_SELECTING: Final = ("list", "watch", "deletecollection")


@dataclass(frozen=True, slots=True)
class Attributes:
    """An action.

    Attributes:
        user: who wants it.
        verb: as in rules; of paths: the HTTP method in small letters.
        group: of the resource.
        version: of the group.
        resource: plural name; "" for a path that is no resource's.
        subresource: "" for none.
        namespace: "" for none, or all.
        name: of the object, "" for none, or all.
        path: of the URL, if it is no resource's.
        fields: that a field selector demands to be equal to something.
    """

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def combined(self) -> str:
        """The resource as in rules, with its subresource."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Authorizer(Protocol):
    """Decides."""

    def authorize(self, wanted: Attributes) -> tuple[bool, str]:
        """Say whether something is allowed, and, if it is not, a reason, which may be ""."""
        ...


def attributes_of(request: web.Request, info: RequestInfo | None, user: User) -> Attributes:
    """Return what a request wants."""
    if info is None:
        return Attributes(user, request.method.lower(), path=request.path)
    name = info.name
    fields: tuple[tuple[str, str], ...] = ()
    if info.verb in _SELECTING and "fieldSelector" in request.query:
        fields = demanded(request.query["fieldSelector"])
        if not name:
            # One object, asked for by a list: what is allowed for it by name is allowed.
            named = dict(fields).get("metadata.name", "")
            name = "" if named in (".", "..") or "/" in named or "%" in named else named
    return Attributes(
        user, info.verb, info.group, info.version, info.resource, info.subresource,
        info.namespace, name, fields=fields,
    )  # fmt: skip


def demanded(selector: str) -> tuple[tuple[str, str], ...]:
    """Return the fields that must be equal to something; none if the selector is malformed."""
    try:
        found = parse_fields(selector, None).requirements
    except ApiError:
        return ()
    return tuple((one.path, one.value) for one in found if one.equal)


def forbidden_text(wanted: Attributes) -> str:
    """Return what is said of an action that is not allowed, in Kubernetes' words."""
    user = _quoted(wanted.user.name)
    if not wanted.resource:
        return f"User {user} cannot {wanted.verb} path {_quoted(wanted.path)}"
    where = (
        f"in the namespace {_quoted(wanted.namespace)}"
        if wanted.namespace
        else "at the cluster scope"
    )
    return (
        f"User {user} cannot {wanted.verb} resource {_quoted(wanted.combined)} in API group "
        f"{_quoted(wanted.group)} {where}"
    )


def forbidden(wanted: Attributes, reason: str) -> ApiError:
    """Return the answer to an action that is not allowed (403)."""
    text = forbidden_text(wanted)
    why = f"{text}: {reason}" if reason else text
    if not wanted.resource:
        return ApiError("Forbidden", f"forbidden: {why}")
    what = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    name = f" {_quoted(wanted.name)}" if wanted.name else ""
    return ApiError(
        "Forbidden",
        f"{what}{name} is forbidden: {why}",
        kind=wanted.resource,
        group=wanted.group,
        name=wanted.name,
    )


def require(authorizer: Authorizer, wanted: Attributes) -> None:
    """Refuse what is not allowed.

    Raises:
        ApiError: it is not (403).
    """
    allowed, reason = authorizer.authorize(wanted)
    if not allowed:
        raise forbidden(wanted, reason)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
