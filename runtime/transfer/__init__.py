"""The service of proto/images.proto: images in and out, with progress; beside CRI on its socket.

A module for each RPC; ``serve`` registers them, ``feed`` carries progress at a bounded rate.
"""
