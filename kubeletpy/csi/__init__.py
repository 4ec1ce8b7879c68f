"""CSI volumes: drivers that register on the node, staged and published over their sockets.

https://github.com/container-storage-interface/spec; what Kubernetes adds (CSIDriver, CSINode,
VolumeAttachment, attributes of pods) is as in the Go kubelet 1.36.
"""

NAME = "kubernetes.io/csi"
"""Of the volume plug-in; prefix of its messages."""
