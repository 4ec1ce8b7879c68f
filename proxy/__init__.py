"""The kube-proxy: programs Services into the kernel."""
