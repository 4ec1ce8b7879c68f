"""The node as services of systemd, joined to an API server, on cgroup v2."""
