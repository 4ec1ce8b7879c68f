"""Run `vagrant up` for real, with the provider libvirt and a box made of Debian's packages.

    sudo .venv/bin/python -m tests.vm.vagrant_up [PYTEST ARGUMENT...]

Each of the three machines is emulated on one core of this one and takes 1.8 GB of memory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kubeletpy import debian
from tests.vm.image import PACKAGES

_PACKAGES = (
    debian.Package("vagrant", "makes the machines", "vagrant"),
    debian.Package(
        "vagrant-libvirt", "has Vagrant make them by libvirt",
        "/usr/share/vagrant-plugins/plugins.d/vagrant-libvirt.json",
    ),
    debian.Package("libvirt-daemon-system", "runs them", "libvirtd", service="libvirtd"),
    debian.Package("libvirt-clients", "asks whether libvirt serves", "virsh"),
    debian.Package("dnsmasq-base", "gives them addresses", "dnsmasq"),
    debian.Package("qemu-utils", "makes their disks", "qemu-img"),
    debian.Package("rsync", "copies the checkout to them", "rsync"),
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Return pytest's exit status."""
    if os.geteuid() != 0:
        print("tests.vm.vagrant_up: needs root, for the machines' disks and their network")
        return 1
    try:
        debian.install(debian.missing([*PACKAGES, *debian.TESTS, *_PACKAGES]))
    except debian.PackageError as error:
        print(f"tests.vm.vagrant_up: {error}")
        return 1
    here = str(Path(__file__).parent)
    options = ["-p", "no:cacheprovider", "--durations=0", "-o", "timeout=7200", "-x", "-v", "-s"]
    return int(pytest.main([*options, *(arguments or [here])]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
