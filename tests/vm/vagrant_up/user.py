"""A user of the Vagrantfile: a checkout of his own, and the commands that README.md names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.vm.cluster.cluster import told
from tests.vm.image import copy_checkout, run
from tests.vm.vagrant_up.box import NAME
from tests.vm.vagrant_up.libvirt import Libvirt

NODES: Final = 2
UP_SECONDS: Final = 3600.0
_SECONDS: Final = 600.0


class User:
    """Runs ``vagrant`` and ``kubectl`` as a user does.

    Args:
        home: everything of his; made here.
        box: the file of the box that he has.
        served: his libvirt.
    """

    def __init__(self, home: Path, box: Path, served: Libvirt) -> None:
        home.mkdir()
        self.checkout = home / "kubeletpy"
        self._served = served
        self._environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home),
            "VAGRANT_CWD": str(self.checkout / "vagrant"),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt", "VAGRANT_CHECKPOINT_DISABLE": "1",
            "BOX": NAME, "BOX_URL": box.as_uri(),
            "NODES": str(NODES), "CPUS": "1", "MEMORY": "1800",
        }  # fmt: skip

    @property
    def on_their_network(self) -> list[str]:
        """The beginning of a command line that runs where the machines can be reached."""
        return self._served.beside(())

    @property
    def kubeconfig(self) -> Path:
        """What ``vagrant up`` leaves for kubectl."""
        return self.checkout / "vagrant" / "kubeconfig"

    def check_out(self) -> None:
        """Get the code, and build the package that machines without the Internet install."""
        copy_checkout(self.checkout)
        command = [sys.executable, "-m", "kubeletpy", "package", "deb"]
        run([*command, "--output", str(self.checkout / "dist")])

    def vagrant(self, *arguments: str, seconds: float = _SECONDS) -> str:
        """Run ``vagrant``; return what it printed.

        Raises:
            AssertionError: it failed.
        """
        with told(f"vagrant {' '.join(arguments)[:60]}"):
            done = subprocess.run(
                self._served.inside(["vagrant", *arguments, "--no-color"]),
                env=self._environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                timeout=seconds,
            )  # fmt: skip
        lines = [one for one in re.split("[\r\n]+", done.stdout) if "Progress:" not in one]
        output = "\n".join(lines)
        assert done.returncode == 0, f"vagrant {' '.join(arguments)}:\n{output[-6000:]}"
        return output

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """Run kubectl with the kubeconfig that he got; return what it printed.

        Raises:
            AssertionError: it failed.
        """
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(
            self._served.beside(command), input=text, capture_output=True, text=True, check=False,
            timeout=_SECONDS + 60,
        )  # fmt: skip
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def get(self, *arguments: str) -> list[Any]:
        """Return objects as ``kubectl get -o json`` prints them."""
        found: list[Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]
        return found

    def wait(self, what: str, *which: str) -> None:
        """Wait for a condition of objects, by ``kubectl wait``."""
        self.kubectl("wait", f"--for={what}", f"--timeout={_SECONDS:.0f}s", *which)
