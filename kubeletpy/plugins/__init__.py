"""Plug-ins of the node: found by their sockets, asked who they are, told if they were taken.

https://kubernetes.io/docs/reference/node/kubelet-files/ (plugins_registry). CSI drivers and device
plug-ins register here; what they then do is in `kubeletpy.csi` and `kubeletpy.devices`.
"""
