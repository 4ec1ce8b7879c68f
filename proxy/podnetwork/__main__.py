"""``python -m proxy.podnetwork``: the entry point of the daemon."""

from __future__ import annotations

from .command import main

if __name__ == "__main__":
    main(prog_name="kubeletpy network")
