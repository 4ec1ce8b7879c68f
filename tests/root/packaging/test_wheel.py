"""The wheel has everything in it: what runs of it runs without the checkout."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from kubeletpy.bootstrap import CHECKOUT
from tests.root.packaging.conftest import Package

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

_PACKAGES = ("kubeletpy", "kubeletpy_common", "runtime", "proxy", "controlplane")
_FOLDERS = {**{name: name for name in _PACKAGES}, "proto/kubeletpy_proto": "kubeletpy_proto"}
# Every command in one process: their libraries are loaded once.
_HELP = """
import contextlib, io, runpy, sys
import click
from kubeletpy.cli import main
context = click.Context(main)
for name in main.list_commands(context):
    command = main.get_command(context, name)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        if hasattr(command, "_module"):
            sys.argv = [name, "--help"]
            runpy.run_module(command._module, run_name="__main__", alter_sys=True)
        else:
            command.main(["--help"], prog_name=name)
    assert "Usage:" in shown.getvalue() or "usage:" in shown.getvalue(), (name, shown.getvalue())
    print(name)
"""


def test_it_has_every_file(first: Package) -> None:
    [own] = first.wheels.glob("kubeletpy-*.whl")
    expected = set()
    for folder, package in _FOLDERS.items():
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{package}/{path.relative_to(CHECKOUT / folder)}")
    with zipfile.ZipFile(own) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_every_command_starts_from_it(full_release: Path) -> None:
    python = full_release / "bin" / "python"
    done = subprocess.run(
        [python, "-I", "-c", _HELP], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert {"kubelet", "runtime", "proxy", "apiserver", "package", "up"} <= set(done.stdout.split())


def test_the_runtime_finds_the_machine_fit(full_release: Path) -> None:
    done = subprocess.run(
        [full_release / "bin" / "kubeletpy", "runtime", "--check", "--output", "json"],
        capture_output=True, text=True, check=False, timeout=200, cwd="/",
    )  # fmt: skip
    assert {item["name"]: item["ok"] for item in json.loads(done.stdout)}["state"] is True
    assert done.returncode == 0
