"""Names of chains. They are the peer's (pkg/proxy/iptables), so that people and tools know them.

Every chain that there may be many of starts with one of `PREFIXES`: the Go kube-proxy takes such
chains for its own leftovers, so it can be started after us and cleans up what it finds.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from ..model.portal import PortalName

SERVICES: Final = "KUBE-SERVICES"
EXTERNAL_SERVICES: Final = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS: Final = "KUBE-NODEPORTS"
POSTROUTING: Final = "KUBE-POSTROUTING"
MARK_MASQUERADE: Final = "KUBE-MARK-MASQ"
FORWARD: Final = "KUBE-FORWARD"
PROXY_FIREWALL: Final = "KUBE-PROXY-FIREWALL"
CANARY: Final = "KUBE-PROXY-CANARY"

KUBELET_FIREWALL: Final = "KUBE-FIREWALL"
"""The kubelet's chain against traffic to 127.0.0.0/8 from outside; both write the same rule."""
KUBELET_MARKS: Final = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
"""Chains in ``mangle`` by which a kubelet shows which back end it uses (KEP-3178)."""

EXTERNAL_NODE_PORTS: Final = "KUBE-EXT-NODEPORTS"
"""Ours, in ``filter``: node ports that are refused or dropped."""

CLUSTER: Final = "KUBE-SVC-"
LOCAL: Final = "KUBE-SVL-"
EXTERNAL: Final = "KUBE-EXT-"
FIREWALL: Final = "KUBE-FW-"
ENDPOINT: Final = "KUBE-SEP-"

PREFIXES: Final = (CLUSTER, LOCAL, EXTERNAL, FIREWALL, ENDPOINT)

FIXED: Final = {
    "filter": (SERVICES, EXTERNAL_SERVICES, NODE_PORTS, FORWARD, PROXY_FIREWALL, CANARY),
    "nat": (SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQUERADE, CANARY),
    "mangle": (CANARY,),
}
"""Chains of ours that are always there, by table."""

MAX_LENGTH: Final = 28
"""Of a chain's name, in bytes (XT_EXTENSION_MAXNAMELEN less the zero)."""


def is_ours(table: str, chain: str) -> bool:
    """Whether a chain belongs to a kube-proxy: to this one, an older one, or the peer."""
    return chain in FIXED.get(table, ()) or chain.startswith(PREFIXES)


def digest(text: str) -> str:
    """Return 16 characters for a text of any length, made as the peer makes them."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()


def portal_digest(name: PortalName) -> str:
    """What follows the prefix in the names of a portal's chains."""
    return digest(str(name) + name.protocol.lower())


def endpoint_chain(name: PortalName, destination: str) -> str:
    """The chain of one endpoint of a portal; ``destination`` is ``address:port``."""
    return ENDPOINT + digest(str(name) + name.protocol.lower() + destination)
