"""What the kubelet serves over HTTP on loopback."""
