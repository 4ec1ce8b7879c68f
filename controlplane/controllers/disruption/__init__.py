"""PodDisruptionBudgets: how many pods may be evicted now.

``budget``
    What a budget allows and tells (pure).
``scales``
    How many pods those who made them want.
``controller``
    Carries it out.

The evictions themselves are the API server's (``pods/eviction``), which takes them off what is told
here.
"""
