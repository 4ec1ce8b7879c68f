"""``kubeletpy metrics``: what nodes and pods use, and what pods say of themselves.

``metrics_server.scraping``
    Fetching texts of others, within bounds.
``metrics_server.usage``
    ``/metrics/resource`` of kubelets: two points of each container, and the usage between (pure).
``metrics_server.series``
    Metrics of pods in Prometheus' format: two scrapes of each, values and rates (pure).
``metrics_server.collecting``
    Whom to ask, and when.
``metrics_server.resource_api``, ``custom_api``, ``external_api``
    The three APIs, as plain data.
``metrics_server.access``
    Who asks, and whether that is allowed, as the API server says.
``metrics_server.serving``
    HTTPS.
``metrics_server.registration``
    APIServices, a Service and its endpoint.
``metrics_server.server``
    All of it together.

Source: metrics-server (kubernetes-sigs) and the definitions of the three APIs.
"""
