"""Pods' networks by CNI plugins, as the Container Network Interface specification 1.1 has it.

:class:`~runtime.network.cni.network.CniNetwork` is the whole of what others use.
"""
