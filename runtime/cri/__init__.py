"""CRI v1 over gRPC: one RPC, one file, one obvious function.

``serve`` registers the functions and does for all of them what is not theirs: logging, durations,
the mapping of errors. ``runtime`` is what they work on; ``lifecycle`` holds what more than one of
them has to do to a pod or a container.
"""
