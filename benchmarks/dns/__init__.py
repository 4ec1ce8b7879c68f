"""Queries a second, and how long they take."""
