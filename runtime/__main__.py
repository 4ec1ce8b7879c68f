"""``python -m runtime``: the container runtime."""

from __future__ import annotations

from runtime.cli import main

if __name__ == "__main__":
    main(prog_name="kubeletpy runtime")
