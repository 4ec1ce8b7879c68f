"""The default network of pods: a bridge, a pair of links per pod, addresses that outlive us.

:class:`~runtime.network.bridge.BridgeNetwork` is the whole of what others use.
"""
