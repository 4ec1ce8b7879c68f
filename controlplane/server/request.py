"""What a request asks for, by its path and query (pure).

Source: Kubernetes documentation, "Kubernetes API Concepts", "Resource URIs" and "API verbs".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.api.errors import ApiError, bad_request

_VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch",
                 "DELETE": "delete"}  # fmt: skip
# Below a namespace these are parts of the namespace itself, and not resources in it.
_OF_NAMESPACE: Final = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A request for a resource.

    Attributes:
        verb: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete`` or
            ``deletecollection``.
        group: "" for the core group.
        version: of it.
        resource: plural name.
        namespace: "" for none, or for all of them.
        name: of the object, "" for all.
        subresource: "" for the object itself.
        rest: what follows in the path, for proxies.
    """

    verb: str
    group: str
    version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def parse_request(method: str, path: str, query: Mapping[str, str]) -> RequestInfo | None:
    """Return what is asked for; None: it is no resource (``/version``, discovery ...).

    Args:
        method: of HTTP.
        path: decoded.
        query: of the URL.

    Raises:
        ApiError: no resource can be asked for by this method.
    """
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if (
        parts[0] == "namespaces"
        and len(parts) > 2
        and not (parts[2] in _OF_NAMESPACE and len(parts) == 3)
    ):
        namespace, parts = parts[1], parts[2:]
    elif parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
    verb = _VERBS.get(method)
    if verb is None:
        raise ApiError("MethodNotAllowed", f"the method {method} is not supported here")
    resource, name, subresource = (*parts, "", "", "")[:3]
    if not name:
        if verb == "get":
            verb = "watch" if is_true(query.get("watch", "")) else "list"
        elif verb == "delete":
            verb = "deletecollection"
        elif verb in ("update", "patch"):
            raise ApiError("MethodNotAllowed", f"{method} needs the name of an object in the path")
    rest = "/".join(parts[3:])
    return RequestInfo(verb, group, version, resource, namespace, name, subresource, rest)


def is_true(text: str) -> bool:
    """Say whether a parameter of a query is set."""
    return text.lower() in ("1", "true", "t")


def integer(query: Mapping[str, str], name: str, default: int) -> int:
    """Return a parameter that must be a number, and not negative.

    Raises:
        ApiError: it is none.
    """
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise bad_request(f"the parameter {name}={text[:40]!r} is not a number from 0 on")
    return int(text)
