"""What a request to the kubelet is, in words of authorization (pure).

Source: Kubernetes documentation, "Kubelet authentication/authorization"; KEP-2862 (fine-grained
authorization of the kubelet's API).
"""

from __future__ import annotations

from typing import Final

_VERBS: Final = {
    "POST": "create",
    "GET": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
# Asked for first; who may not has one more chance by nodes/proxy, which all of these were before.
_FINE: Final = {"/pods": "pods", "/healthz": "healthz", "/configz": "configz",
                "/runningpods": "pods"}  # fmt: skip
_OWN: Final = {
    "/stats": "stats",
    "/metrics": "metrics",
    "/logs": "log",
    "/checkpoint": "checkpoint",
    "/statusz": "statusz",
    "/flagz": "configz",
}


def verb_of(method: str) -> str:
    """Return the verb of an HTTP method; "" for those without one, which nobody is allowed."""
    return _VERBS.get(method, "")


def subresources_of(path: str) -> tuple[str, ...]:
    """Return the subresources of ``nodes`` that a path belongs to; one of them must be allowed.

    Args:
        path: decoded, as ``/containerLogs/default/web/nginx``.
    """
    first = "/" + path.lstrip("/").split("/", 1)[0]
    if not path.startswith(first):
        # "//pods" is not "/pods" and must not be taken for it.
        return ("proxy",)
    own = _OWN.get(first)
    if own is not None:
        return (own,)
    fine = _FINE.get(first)
    return (fine, "proxy") if fine is not None else ("proxy",)
