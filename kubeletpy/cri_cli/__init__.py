"""``kubeletpy cri`` and ``kubeletpy image``: a small client for any CRI v1 socket.

``commands`` has the groups and what lists things; each other command has a module. ``find``,
``text`` and ``logfile`` decide and format, and talk to nobody.
"""
