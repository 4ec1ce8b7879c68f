"""Boot a cluster of virtual machines and run its tests.

    sudo .venv/bin/python -m tests.vm.cluster [--nodes N] [PYTEST ARGUMENT...]

Each machine is emulated on one core of this one and takes 1.8 GB of memory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kubeletpy import debian
from tests.vm.image import PACKAGES


def main(arguments: list[str]) -> int:
    """Return pytest's exit status."""
    if os.geteuid() != 0:
        print("tests.vm.cluster: needs root, for the machines' disks and their switch")
        return 1
    if arguments[:1] == ["--nodes"]:
        os.environ["KUBELETPY_VM_NODES"] = arguments[1]
        arguments = arguments[2:]
    try:
        debian.install(debian.missing([*PACKAGES, *debian.TESTS]))
    except debian.PackageError as error:
        print(f"tests.vm.cluster: {error}")
        return 1
    here = str(Path(__file__).parent)
    options = ["-p", "no:cacheprovider", "--durations=0", "-o", "timeout=3600", "-x", "-v", "-s"]
    return int(pytest.main([*options, *(arguments or [here])]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
