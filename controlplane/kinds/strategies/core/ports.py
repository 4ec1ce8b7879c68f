"""What ports of services and endpoints have in common (pure)."""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_problems, subdomain_problems
from controlplane.api.metadata import wrong

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")


def check_label_name(name: str, path: str) -> list[Cause]:
    """Return what is wrong with a name that is an RFC 1123 label."""
    return [wrong(path, name, why) for why in label_problems(name)]


def check_node_name(name: str, path: str) -> list[Cause]:
    """Return what is wrong with the name of a node."""
    return [wrong(path, name, why) for why in subdomain_problems(name)]
