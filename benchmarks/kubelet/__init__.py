"""The kubelet as a user of a cluster feels it; ``python -m benchmarks.kubelet``."""
