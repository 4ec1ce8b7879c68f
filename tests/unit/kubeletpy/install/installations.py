"""Installations to test with."""

from __future__ import annotations

from kubeletpy.install.choosing import Asked, choose
from kubeletpy.install.facts import Facts
from kubeletpy.install.installation import NodeInstallation

FACTS = Facts(
    hostname="one", program=("/opt/kubeletpy/current/bin/kubeletpy",), address="192.0.2.7"
)


def server(**asked: object) -> NodeInstallation:
    return choose(None, Asked(role="server", **asked), FACTS)  # type: ignore[arg-type]


def node(**asked: object) -> NodeInstallation:
    return choose(None, Asked(role="node", server="https://192.0.2.1:6443", **asked), FACTS)  # type: ignore[arg-type]
