"""Endpoints of Services that select pods, for those who do not read EndpointSlices yet.

``endpoints.plan``
    What they shall be (pure).
``endpoints.controller``
    ``EndpointsController``.
"""
