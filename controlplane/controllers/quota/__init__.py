"""Resource quotas: what is used of each.

``usage``
    What an object counts for (pure); the API server's admission counts by it, too.
``controller``
    Keeps ``status.used``.
"""
