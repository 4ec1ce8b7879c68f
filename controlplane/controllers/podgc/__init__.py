"""Pods that nobody else will ever remove."""
