"""Nodes that are silent, not ready or short of something.

``health``
    When a node was last heard of.
``taints``
    What taints and labels a node has for its state.
``zones``
    How many nodes of a zone may be emptied, and how fast.
``controller``
    Watches nodes and their leases, and writes.
"""
