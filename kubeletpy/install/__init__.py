"""A node or a server installed on this machine as services of systemd, and removed again."""
