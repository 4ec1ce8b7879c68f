"""Graceful node shutdown (KEP-2000): pods end in order before the machine does."""
