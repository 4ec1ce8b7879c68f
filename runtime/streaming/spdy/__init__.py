"""The server's side of a SPDY/3.1 connection."""
