"""Objects that the tests of Ingress share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.ingress.backends import World
from controlplane.ingress.model import PREFIX


def ingress(
    name: str, *rules: Mapping[str, Any], age: int = 0, namespace: str = "default", **more: Any
) -> dict[str, Any]:
    """Return an Ingress; ``more``: annotations without their prefix, and fields of the spec."""
    annotations = {PREFIX + key: text for key, text in more.pop("annotations", {}).items()}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations,
                     "creationTimestamp": f"2026-01-01T00:00:{59 - age:02}Z"},
        "spec": {"rules": list(rules), **more},
    }  # fmt: skip


def backend(name: str, port: int | str = 80) -> dict[str, Any]:
    """Return a backend."""
    field = "name" if isinstance(port, str) else "number"
    return {"service": {"name": name, "port": {field: port}}}


def rule(host: str, **paths: str) -> dict[str, Any]:
    """Return a rule; ``paths``: services by ``KIND_PATH``, where _ is a slash."""
    found = []
    for text, service in paths.items():
        kind, _, path = text.partition("_")
        found.append({"path": f"/{path.replace('_', '/')}", "pathType": kind,
                      "backend": backend(service)})  # fmt: skip
    return {"host": host, "http": {"paths": found}} if host else {"http": {"paths": found}}


def world(
    services: Mapping[str, Mapping[str, Any]] | None = None,
    secrets: Mapping[str, Mapping[str, bytes]] | None = None,
) -> World:
    """Return what is there; a service that is not told of has an address and port 80."""

    def service(namespace: str, name: str) -> Mapping[str, Any] | None:
        if services is not None:
            return services.get(name)
        return {"spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]}}

    return World(service, lambda *_: [], lambda _, name: (secrets or {}).get(name))
