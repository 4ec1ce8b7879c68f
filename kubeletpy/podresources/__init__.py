"""The pod-resources API: which devices, CPUs and memory each container has (KEP-606)."""
