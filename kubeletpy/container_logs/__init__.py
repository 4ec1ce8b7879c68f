"""Logs of containers, as the runtime writes them and as clients ask for them."""
