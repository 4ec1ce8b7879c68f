"""Nodes, pods and situations for tests of schedulers."""
