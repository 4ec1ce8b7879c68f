"""A server installed by `kubeletpy install`, upgraded and removed, on cgroup v2 with systemd."""
