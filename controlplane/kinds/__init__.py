"""The kinds that the server knows: their resources and the types of their fields.

The tables (``resources.json``, ``types.json``) are facts: names, types, keys of lists. They are
made by ``python -m controlplane.kinds.derive`` from what any API server publishes of itself.
"""
