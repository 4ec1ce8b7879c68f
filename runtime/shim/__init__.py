"""The shim: one small process per pod, the parent of the pod's containers.

It keeps their exit codes, their stdio and their logs, so that the daemon may die and come back.
"""
