"""Pods for tests."""

from __future__ import annotations

from typing import Any

from kubeletpy.api.codec import decode
from kubeletpy.api.defaults import set_defaults
from kubeletpy.api.pod import Pod


def document(**spec: Any) -> dict[str, Any]:
    """A manifest of one container; ``spec`` replaces fields of its spec."""
    containers = [{"name": "main", "image": "registry.example/web:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "11111111-2222"},
        "spec": {"containers": containers, **spec},
    }


def make_pod(**spec: Any) -> Pod:
    """That manifest as a pod, defaults filled in."""
    pod = decode(document(**spec), Pod)
    set_defaults(pod)
    return pod


def with_container(**container: Any) -> dict[str, Any]:
    """Keyword for ``document``: one container with these fields besides name and image."""
    return {"containers": [{"name": "main", "image": "registry.example/web:1", **container}]}
