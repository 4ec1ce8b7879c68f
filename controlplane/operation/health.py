"""``/livez``, ``/readyz`` and ``/healthz``: whether the server is well, check by check.

Source: Kubernetes documentation, "Kubernetes API health endpoints".
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from controlplane.api.errors import ApiError
from controlplane.plane import Plane

SHUTDOWN: Final = "shutdown"
_ROOTS: Final = ("livez", "readyz", "healthz")
_PLAIN: Final = {"X-Content-Type-Options": "nosniff"}


def install_health(plane: Plane) -> None:
    """Hook in."""
    plane.checks["ping"] = lambda: ""
    plane.checks["log"] = lambda: ""
    plane.checks["etcd"] = plane.store.problem
    plane.checks[SHUTDOWN] = lambda: "the server is stopping" if plane.stopping else ""
    health = Health(plane)
    for root in _ROOTS:
        plane.paths[f"/{root}"] = plane.trees[f"/{root}"] = health.answer


def is_health(path: str) -> bool:
    """Say whether a path asks if the server is well."""
    return path.strip("/").split("/")[0] in _ROOTS


class Health:
    """Answers them.

    Args:
        plane: whose checks are asked.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request.

        Raises:
            ApiError: there is no such check.
        """
        if request.method not in ("GET", "HEAD"):
            raise ApiError("MethodNotAllowed", f"{request.method} is not supported here")
        root, *rest = request.path.strip("/").split("/")
        names = [n for n in self._plane.checks if n != SHUTDOWN or root != "livez"]
        if rest:
            name = "/".join(rest)
            if name not in names:
                raise ApiError("NotFound", f"the server has no check {name[:80]!r}")
            if self._plane.checks[name]():
                text = "internal server error: reason withheld\n"
                return web.Response(text=text, status=500, headers=_PLAIN)
            return web.Response(text="ok", headers=_PLAIN)
        return self._all(root, names, request)

    def _all(self, root: str, names: list[str], request: web.Request) -> web.Response:
        excluded = set(request.query.getall("exclude", []))
        lines, failed = [], False
        for name in names:
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif self._plane.checks[name]():
                # Anyone may ask: what exactly is wrong is in the log.
                lines.append(f"[-]{name} failed: reason withheld")
                failed = True
            else:
                lines.append(f"[+]{name} ok")
        unknown = sorted(excluded - set(names))
        if unknown:
            listed = ", ".join(f'"{name[:80]}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {listed}")
        lines.append(f"{root} check {'failed' if failed else 'passed'}")
        if failed or "verbose" in request.query:
            text = "\n".join(lines) + "\n"
            return web.Response(text=text, status=500 if failed else 200, headers=_PLAIN)
        return web.Response(text="ok", headers=_PLAIN)
