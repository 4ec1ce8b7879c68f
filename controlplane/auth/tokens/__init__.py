"""Tokens of service accounts, and of nodes that join."""
