"""The runtime and kubelet of the engine's tests."""

from tests.root.kubeletpy.engine.conftest import (
    kubelet,
    machine_scope,
    node,
    place,
    run,
    stopped_kubelet,
)

__all__ = ["kubelet", "machine_scope", "node", "place", "run", "stopped_kubelet"]
