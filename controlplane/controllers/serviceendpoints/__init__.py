"""What the controllers of EndpointSlices and of Endpoints have in common.

``serviceendpoints.pods``
    What a pod says of itself that makes it an endpoint (pure).
``serviceendpoints.matching``
    ``Matching``: which pods a Service selects and which Services select a pod, by indexes.
``serviceendpoints.writing``
    Keys of slices, answers of the server (pure).
``serviceendpoints.triggers``
    When what caused a change of endpoints happened (pure).
"""
