"""HorizontalPodAutoscalers: how many replicas, by what is measured.

``autoscaling.calculation``
    From measured values to a number of replicas (pure).
``autoscaling.pods``
    Which pods count, and what they asked for (pure).
``autoscaling.stabilizing``
    How fast that number may change: windows, policies, limits (pure but for what it remembers).
``autoscaling.proposals``
    What each metric of an autoscaler proposes, and the status of it.
``autoscaling.metrics``
    Asking metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io.
``autoscaling.targets``
    The scale of whatever is scaled.
``autoscaling.controller``
    All of it together.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", and kube-controller-manager, whose
numbers, reasons and messages these are.
"""
