"""The same node as the tests of the calls have."""

from tests.root.runtime.cri.conftest import machine_scope, node, place, settings

__all__ = ["machine_scope", "node", "place", "settings"]
