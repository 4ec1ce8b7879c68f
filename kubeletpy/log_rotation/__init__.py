"""Rotation of containers' logs: containerLogMaxSize, containerLogMaxFiles (KEP-4265 for workers).

``rotation``: one log, its names, what goes and what is compressed; ``manager``: when.
"""
