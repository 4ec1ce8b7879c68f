"""Objects as an API server has them, and a rule set that only remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from proxy.backend import Synced, SyncError, Wanted
from proxy.model import objects
from proxy.model.portal import Portal, PortalName


def service(name: str = "web", namespace: str = "default", **fields: Any) -> objects.Service:
    """A Service of one TCP port 80; ``fields`` are of its spec, ``status`` and ``metadata``."""
    metadata = {"name": name, "namespace": namespace, **fields.pop("metadata", {})}
    status = fields.pop("status", {})
    spec = {"clusterIP": "10.0.0.1", "ports": [{"port": 80}], **fields}
    data = {"metadata": metadata, "spec": spec, "status": status}
    return msgspec.json.decode(msgspec.json.encode(data), type=objects.Service)


def endpoint(ip: str, **fields: Any) -> dict[str, Any]:
    """An endpoint of a slice, ready unless it says otherwise."""
    return {"addresses": [ip], **fields}


def endpoint_slice(
    *endpoints: dict[str, Any],
    name: str = "web-1",
    service_name: str = "web",
    ports: Any = ({"name": "", "port": 8080, "protocol": "TCP"},),
    kind: str = "IPv4",
    metadata: dict[str, Any] | None = None,
) -> objects.EndpointSlice:
    """A slice of a Service."""
    labels = {"kubernetes.io/service-name": service_name}
    about = {"name": name, "namespace": "default", "labels": labels, **(metadata or {})}
    data = {"metadata": about, "addressType": kind, "endpoints": endpoints, "ports": ports}
    return msgspec.json.decode(msgspec.json.encode(data), type=objects.EndpointSlice)


class Remembering:
    """A rule set in memory.

    Attributes:
        wanted: what was asked for, one entry for each sync.
        rules: what is there now.
        failing: how many of the next syncs fail.
    """

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.rules: dict[PortalName, Portal] = {}
        self.failing = 0
        self.there = True
        self.watched: Callable[[str], None] | None = None
        self.closed = False

    def sync(self, wanted: Wanted) -> Synced:
        self.wanted.append(wanted)
        if self.failing:
            self.failing -= 1
            raise SyncError("line 7: no such chain")
        if wanted.full:
            self.rules = dict(wanted.portals)
        for name in wanted.changed:
            if name in wanted.portals:
                self.rules[name] = wanted.portals[name]
            else:
                self.rules.pop(name, None)
        self.there |= wanted.full
        return Synced(wanted.full, len(wanted.changed), 0, {"nat": len(self.rules)})

    def plan(self, wanted: Wanted) -> str:
        return "\n".join(str(name) for name in sorted(wanted.portals))

    def intact(self) -> bool:
        return self.there

    def watch(self, doubt: Callable[[str], None]) -> Callable[[], None]:
        self.watched = doubt
        return lambda: None

    def cleanup(self) -> None:
        self.rules.clear()

    def close(self) -> None:
        self.closed = True
