"""The attacks are run against the real daemon, as the tests of its CRI are."""

from __future__ import annotations

from tests.root.runtime.cri.conftest import machine_scope, node, place, settings

__all__ = ["machine_scope", "node", "place", "settings"]
