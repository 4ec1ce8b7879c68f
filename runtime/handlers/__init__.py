"""Runtime handlers: who starts a pod's containers, this runtime itself or an OCI runtime's program.

A pod names its handler (Kubernetes: RuntimeClass); the settings say which there are.
"""
