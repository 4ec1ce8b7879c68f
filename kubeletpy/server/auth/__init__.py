"""Who asks the kubelet's API, and whether they may."""
