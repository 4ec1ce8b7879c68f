"""Removing flows that the kernel still has for Services as they were.

The first packet of a flow goes through the rules, all others follow conntrack's memory of it. A TCP
client whose endpoint is gone notices and connects anew; a UDP client sends on and on, and each
packet keeps the dead flow alive. So flows of UDP and SCTP whose endpoint went, or that began before
their Service had one and so bypassed it, are removed.

``conntrack.flows``
    Which flows are stale: pure.
``conntrack.netlink``
    The kernel's table, and removing from it.
``conntrack.addresses``
    The node's own addresses, by which flows to node ports are known.
"""
