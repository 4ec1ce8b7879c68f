"""Joining a cluster: from an address and a token to a kubeconfig to ask for a certificate with.

``tokens``, ``command``
    Bootstrap tokens, and ``kubeletpy token``.
``discovery``
    `discover`: who the cluster is, and that it is the one that the token is of.
``checks``
    `check_join`: whether this machine may join, before anything is written.
``kubeconfigs``
    What is written, and ``kubeletpy kubeconfig``.

What follows is the kubelet's: `kubeletpy.certificates`.

Source: Kubernetes documentation, "kubeadm join", "Discovering what cluster CA to trust".
"""

from .checks import check_join
from .discovery import Discovered, discover
from .errors import JoinError
from .kubeconfigs import write_bootstrap_kubeconfig

__all__ = ["Discovered", "JoinError", "check_join", "discover", "write_bootstrap_kubeconfig"]
