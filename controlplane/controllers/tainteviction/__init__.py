"""Pods leave nodes whose taints they do not tolerate, or no longer."""
