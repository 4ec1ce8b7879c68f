"""What the proxy tells of itself: /healthz, /livez, /metrics, and the health of Services.

``health.state``
    `Health`: whether rules keep up with what is wanted (pure).
``health.metrics``
    `Metrics`: numbers, named as the peer's.
``health.servers``
    The two HTTP servers of the configuration.
``health.services``
    `ServiceHealth`: the ports that load balancers ask (``healthCheckNodePort``).

All of it is plain HTTP, as in the peer; ``metricsBindAddress`` is loopback unless configured.
"""
