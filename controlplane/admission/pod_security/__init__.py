"""PodSecurity: which pods a namespace lets in, by its labels.

Source: Kubernetes documentation, "Pod Security Standards", "Pod Security Admission" (KEP-2579).
"""
