"""``python -m proxy``: the kube-proxy's entry point."""

from __future__ import annotations

from .command import main

if __name__ == "__main__":
    main(prog_name="kubeletpy proxy")
