"""What goes wrong with a pod's network, in words for the person who runs the node."""

from __future__ import annotations


class NetworkError(Exception):
    """The network cannot do what was asked; the text says what, why, and what to do."""


class SubnetExhausted(NetworkError):
    """Every address of a subnet belongs to a pod."""


class PortConflict(NetworkError):
    """A host port is another pod's already."""
