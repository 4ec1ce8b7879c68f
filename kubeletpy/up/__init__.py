"""``kubeletpy up``: API server, registry, runtime and kubelet here, and a pod that shows them."""
