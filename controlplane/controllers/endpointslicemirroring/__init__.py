"""EndpointSlices of Endpoints that people or other programs wrote, for Services without selector.

``endpointslicemirroring.plan``
    What they shall be (pure).
``endpointslicemirroring.controller``
    ``MirroringController``.
"""
