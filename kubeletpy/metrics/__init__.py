"""What the kubelet counts of itself, under the names of the Go kubelet's metrics."""
