"""A Kubernetes API server for one machine, on an embedded store."""
