"""Speaking CRI v1: the client, the stream of events, and the translation of pods.

``cri.client``
    ``CriClient(endpoint)``, ``CriError(code, message)``.
``cri.events``
    ``ContainerEvents(client)``: async iteration over ``ContainerEvent``, ``Resync``; raises
    ``EventsUnsupported`` when the runtime has no such stream.
``cri.sandbox_config``
    ``sandbox_config(pod, node, attempt=, cgroup_parent=) -> SandboxPlan`` (config and warnings).
``cri.container_config``
    ``container_config(ContainerRequest) -> ContainerConfig``; ``ConfigError``.
``cri.labels``
    the labels and annotations by which a kubelet finds its pods again.
"""
