"""How volumes hook into the kubelet beyond what its pods need at once."""

from __future__ import annotations

from kubeletpy.core import Core


def install(core: Core) -> None:
    """Let the node affinity of PersistentVolumes be checked by the labels of this node."""

    def labels() -> dict[str, str] | None:
        node = core.presence.node if core.presence is not None else None
        if node is None:
            return None
        return dict(node.get("metadata", {}).get("labels") or {})

    core.volumes.context.node_labels = labels
