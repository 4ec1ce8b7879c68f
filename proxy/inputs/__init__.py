"""Where Services, EndpointSlices and the Node come from: an API server, or files.

``inputs.sink``
    `Sink`: what takes them in. Both sources give objects one by one and say when a list is whole.
"""
