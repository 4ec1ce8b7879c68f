"""``kubeletpy up``: registry, runtime and kubelet on this machine, and a pod that shows them."""
