"""The kubelet, and the `kubeletpy` command that starts each daemon of the node."""
