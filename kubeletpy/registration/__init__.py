"""The node as the API server knows it: its object, its status, its lease.

``machine`` and ``addresses`` read facts; ``capacity``, ``conditions``, ``status``, ``objects`` are
pure; ``runtime_health`` follows the runtime; ``presence`` carries it all out.
"""
