"""EndpointSlices of Services: where their pods are.

``endpointslice.endpoints``
    A pod as an endpoint, its ports (pure).
``endpointslice.packing``
    Endpoints into slices, with as few changes as can be (pure).
``endpointslice.plan``
    All slices of one address family of a Service (pure).
``endpointslice.hints``
    Which zone or node is to use an endpoint, by ``trafficDistribution`` (pure).
``endpointslice.controller``
    ``EndpointSliceController``.
"""
