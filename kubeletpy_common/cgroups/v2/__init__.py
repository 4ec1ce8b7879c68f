"""Cgroup v2: one hierarchy for all controllers."""
