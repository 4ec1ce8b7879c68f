"""Layers become directories: in processes of their own, confined, on as many cores as there are.

    daemon (client)  -- jobs -->  unpacker (main)  -- fork -->  writer (job)  -- fork -->  reader

The reader inflates, verifies and parses a layer's bytes, which nobody vouches for; it is a nobody
with two open descriptors. The writer applies the entries that the reader sends through a pipe, and
sees nothing of the host but the snapshots. Both end with their layer, and so does their memory.
"""
