"""ResourceQuota: how much of what a namespace may have.

Source: Kubernetes documentation, "Resource Quotas".
"""
