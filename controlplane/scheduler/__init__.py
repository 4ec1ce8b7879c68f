"""The scheduler: gives pods to nodes, and ``kubeletpy scheduler``, which runs it.

It is written against the API alone: it runs beside any API server, and in the process of the
controllers.

``scheduler.scheduler``
    What happens in the cluster, turned into state and attempts; the loop.
``scheduler.queue``, ``scheduler.hinting``
    Pods that wait, and what wakes them.
``scheduler.cluster``
    Nodes and pods, counted as they come and go.
``scheduler.placing``, ``scheduler.plugins``
    Filters and scores.
``scheduler.preemption``
    Making room for important pods.
``scheduler.binding``, ``scheduler.reporting``
    What is written to the API server.
``scheduler.configuration``, ``scheduler.profiles``
    KubeSchedulerConfiguration, and what it makes of the plugins.
"""
