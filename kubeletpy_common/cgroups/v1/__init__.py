"""Cgroup v1: every controller is a hierarchy of its own."""
