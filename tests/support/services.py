"""Services, pods and slices as plain data, for tests of what is made of them."""

from __future__ import annotations

from typing import Any


def service(name: str = "web", *, uid: str = "s1", **spec: Any) -> dict[str, Any]:
    """Return a Service that selects ``app=web``; ``spec``: more of it."""
    meta = spec.pop("metadata", {})
    given = {
        "selector": {"app": "web"}, "clusterIP": "10.96.0.20", "type": "ClusterIP",
        "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        **spec,
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "uid": uid,
                     "creationTimestamp": "2026-01-01T00:00:00Z", **meta},
        "spec": given,
    }  # fmt: skip


def pod(number: int = 1, *, ready: bool = True, **more: Any) -> dict[str, Any]:
    """Return a pod on node ``n1``; ``more``: ``spec``, ``status``, ``metadata``."""
    name = f"web-{number}"
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    state = "True" if ready else "False"
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "uid": f"u{number}",
                     "labels": {"app": "web"}, **more.get("metadata", {})},
        "spec": {"nodeName": "n1", "containers": [{"name": "main"}], **more.get("spec", {})},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": state,
                            "lastTransitionTime": "2026-01-01T00:01:00Z"}],
            **more.get("status", {}),
        },
    }  # fmt: skip
