"""The controllers, a package or module for each, and ``kubeletpy controllers``, which runs them.

They are written against the API alone: they run beside any API server.
"""
