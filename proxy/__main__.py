"""``python -m proxy``: the kube-proxy's entry point."""

from __future__ import annotations

import sys

import click

_NOT_YET = (
    "kubeletpy proxy: Services are not programmed yet in this version; nothing was changed. "
    "Pods reach each other by their addresses; for Services run the Go kube-proxy beside the node."
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(arguments: tuple[str, ...]) -> None:
    """Program Services into the kernel (not in this version: exits with 1 and says so)."""
    click.echo(_NOT_YET, err=True)
    sys.exit(1)


if __name__ == "__main__":
    main(prog_name="kubeletpy proxy")
