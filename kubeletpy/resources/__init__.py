"""Resources of pods: QoS class, totals, limits in the kernel's units, cgroups.

``resources.qos``: ``qos_class(pod)``. ``resources.totals``: ``pod_requests(pod)``,
``pod_limits(pod)``. ``resources.limits``: shares, quota, OOM scores. ``resources.cgroups``:
``PodCgroups`` makes and removes the cgroups of pods.
"""
