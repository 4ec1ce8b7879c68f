"""``kubeletpy package``: wheel and Debian package of a checkout."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from kubeletpy.console import say
from kubeletpy.packaging import debian_package as deb
from kubeletpy.packaging import sources
from kubeletpy.packaging.documents import documents
from kubeletpy.packaging.errors import PackagingError
from kubeletpy.packaging.interpreters import compile_wheels
from kubeletpy.packaging.manifest import Compiled, Manifest, Pinned

PYTHONS: Final = ("3.11", "3.12", "3.13")
"""Those of Debian 12, Ubuntu 24.04 and Debian 13."""
_OUTPUT: Final = click.option(
    "--output", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path("dist"),
    show_default=True, help="Where the package is put.",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def package() -> None:
    """Build packages of this checkout.

    \b
    For the machine that builds:            kubeletpy package deb
    For Debian 12, 13 and Ubuntu 24.04:     kubeletpy package deb --python all
    Then, where it is to be installed:      apt install ./kubeletpy_*.deb

    The same sources and wheels give the same bytes; SOURCE_DATE_EPOCH sets the date in them.
    """


@package.command()
@_OUTPUT
def wheel(output: Path) -> None:
    """Build the wheel: kubeletpy alone, for pip."""
    try:
        made = sources.build_wheel(output, sources.require_checkout())
    except PackagingError as error:
        raise click.ClickException(str(error)) from error
    click.echo(made)


@package.command(name="deb")
@_OUTPUT
@click.option(
    "--python", "pythons", multiple=True, metavar="VERSION",
    help="A version of Python to have everything for, such as 3.11; can be given more than once; "
    f"all: {', '.join(PYTHONS)}.  [default: that of this machine]",
)  # fmt: skip
@click.option(
    "--wheels", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="Take all wheels from this directory, without a network (`pip wheel --wheel-dir DIR .` "
    "fills one).  [default: from the index that pip is configured with]",
)  # fmt: skip
def debian(output: Path, pythons: tuple[str, ...], wheels: Path | None) -> None:
    """Build a Debian package with everything in it, for offline installation."""
    try:
        made = build_deb(output, chosen(pythons), wheels)
    except PackagingError as error:
        raise click.ClickException(str(error)) from error
    click.echo(made)


def chosen(given: tuple[str, ...]) -> list[str]:
    """Return the versions of Python to package for, ascending.

    Raises:
        PackagingError: one is none that kubeletpy works with.
    """
    wanted = set(given) or {f"{sys.version_info.major}.{sys.version_info.minor}"}
    if "all" in wanted:
        wanted = (wanted - {"all"}) | set(PYTHONS)
    unknown = sorted(wanted.difference(PYTHONS))
    if unknown:
        raise PackagingError(
            f"kubeletpy is not tried on Python {', '.join(unknown)}: choose of "
            f"{', '.join(PYTHONS)} by --python, or `all`"
        )
    return [version for version in PYTHONS if version in wanted]


def compiled(listing: dict[str, tuple[Pinned, ...]], pool: Path) -> dict[str, Compiled]:
    """Compile for each version of Python that this machine has; tell which it has not.

    Args:
        listing: the wheels for each version.
        pool: where they are, and the archives are put.

    Raises:
        PackagingError: it failed.
    """
    found = {}
    for python, wheels in listing.items():
        archive = compile_wheels(python, wheels, pool)
        if archive is None:
            say(
                f"This machine has no Python {python}: machines that have it will compile for some "
                "seconds of their processor's time when they install"
            )
        else:
            found[python] = archive
    return found


def build_deb(output: Path, pythons: list[str], wheels: Path | None) -> Path:
    """Build the Debian package and return its file.

    Args:
        output: directory that it is put into.
        pythons: versions of Python.
        wheels: None, or where all wheels are.

    Raises:
        PackagingError: something is missing.
    """
    checkout = sources.require_checkout()
    # It needs a library that only environments of a checkout have.
    from kubeletpy.packaging.resolve import fetch, pinned, requirements

    architecture = deb.architecture()
    with tempfile.TemporaryDirectory(prefix="kubeletpy-deb-") as temporary:
        pool = Path(temporary, "wheels")
        own = sources.build_wheel(pool)
        listing: dict[str, tuple[Pinned, ...]] = {}
        for python in pythons:
            output_of = Path(temporary, python)
            found = fetch(requirements(checkout), python, output_of, pool, wheels)
            listing[python] = tuple(pinned(path) for path in (own, *found))
            for path in found:
                shutil.move(path, pool / path.name)
        manifest = Manifest(sources.version(checkout), listing, compiled(listing, pool))
        changed = pinned(own).sha256 if sources.is_changed(checkout) else ""
        version = deb.debian_version(manifest.version, sources.commit(checkout), changed)
        tree = Path(temporary, "tree")
        tree.mkdir()
        control = deb.Control(version, architecture, pythons, 0)
        deb.lay_out(tree, manifest, pool, documents(checkout), control)
        output.mkdir(parents=True, exist_ok=True)
        final = output / f"kubeletpy_{version}_{architecture}.deb"
        deb.build(tree, final, sources.epoch(checkout))
    say(f"{final.name}: {final.stat().st_size / 1e6:.1f} MB, for Python {', '.join(pythons)}")
    return final
