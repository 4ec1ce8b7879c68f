"""Garbage collection: what becomes of objects whose owners go.

Source: Kubernetes documentation, "Garbage Collection", "Owners and Dependents".
"""
