"""Settings of the proxy: KubeProxyConfiguration (v1alpha1) and flags.

``configuration`` has the fields with their types and defaults, ``validation`` what Go's kube-proxy
refuses, ``flags`` the command line, ``settings`` what all the rest of the proxy gets.
"""

from .settings import Settings

__all__ = ["Settings"]
