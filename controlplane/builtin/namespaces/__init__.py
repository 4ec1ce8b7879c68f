"""The life of namespaces: the first ones, and how one is emptied and goes.

Source: Kubernetes documentation, "Namespaces"; KEP-5080 (pods go first).
"""
