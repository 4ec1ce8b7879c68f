"""Snapshots: unpacked layers and containers' writable directories, as overlayfs wants them."""
