"""Messages of the events about resizes, machine-readable as the Go kubelet's (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from kubeletpy.api.codec import encode
from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod


def message(what: str, pod: Pod, generation: int, error: str = "") -> str:
    """Return ``what`` with the resources of all containers as JSON.

    Args:
        what: such as ``Pod resize started``.
        pod: with the resources that it is about.
        generation: of the pod's specification that asked for them.
        error: why it cannot be.
    """
    content: dict[str, Any] = {}
    for name, containers in (
        ("initContainers", pod.spec.init_containers),
        ("containers", pod.spec.containers),
    ):
        if containers:
            content[name] = [_container(one) for one in containers]
    content["generation"] = generation
    if error:
        content["error"] = error
    return f"{what}: {msgspec.json.encode(content).decode()}"


def _container(container: Container) -> dict[str, Any]:
    return {"name": container.name, "resources": msgspec.Raw(encode(container.resources))}
