"""One daemon a module, and shorthands for the command line and for tools that are not ours."""

from __future__ import annotations

from tests.root.runtime.cri.conftest import machine_scope, node, place, settings

__all__ = ["machine_scope", "node", "place", "settings"]
