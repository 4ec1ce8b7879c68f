"""The network of pods, behind :class:`~runtime.network.pod_network.PodNetwork`.

The built-in one (``bridge``): a bridge, a pair of links per pod, host ports, addresses that outlive
us. That of CNI plugins (``cni``). And the choice between them (``chosen``).
"""
