"""Namespaces that are to be deleted."""
