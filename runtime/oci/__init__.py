"""The OCI runtime specification: from CRI requests to a configuration, and from that to a process.

``translate`` builds the configuration (pure), ``plan`` turns its file-system part into steps
(pure), ``child`` carries them out between fork and exec.
"""
