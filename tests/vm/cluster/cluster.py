"""The machines together: made from the package by the provisioning scripts, asked by kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.ociimage import busybox_image, push
from tests.support.registry import DockerRegistry
from tests.vm.cluster.guest import Guest, Identity
from tests.vm.cluster.switch import GATEWAY, Switch
from tests.vm.image import CACHE, CHECKOUT, ensure_image, run

PODS: Final = "10.244.0.0/16,fd00:10:244::/56"
SERVICES: Final = "10.96.0.0/16,fd00:10:96::/112"
TOKEN: Final = "abcdef.0123456789abcdef"
PROVISION: Final = "/srv/data/vagrant/provision"
IMAGE: Final = ("tests/busybox", "v1")
_PROVISION_SECONDS: Final = 1500.0
_SECONDS: Final = 600.0
_BESIDE_SECONDS: Final = 120.0
HOSTS: Final = """\
server = "http://{host}"
[host."http://{host}"]
capabilities = ["pull", "resolve"]
"""


@dataclass
class Cluster:
    """A server and nodes, each a virtual machine.

    Attributes:
        switch: what they are plugged into.
        server: runs the control plane, and pods.
        nodes: the other machines.
        image: a busybox that all of them can pull.
        kubeconfig: of the administrator, on this machine; "" before the server is there.
    """

    switch: Switch
    server: Guest
    nodes: Sequence[Guest]
    image: str
    kubeconfig: Path

    @property
    def guests(self) -> list[Guest]:
        """All machines, the server first."""
        return [self.server, *self.nodes]

    def outside(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command on the switch, but on no machine of the cluster."""
        return subprocess.run(
            self.switch.inside(command), capture_output=True, text=True, check=False,
            timeout=seconds, env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )  # fmt: skip

    @contextmanager
    def beside(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command on the switch while something else is done; its output is one stream."""
        with subprocess.Popen(
            self.switch.inside(command), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        ) as process:  # fmt: skip
            # Whoever reads what it never prints gets its end.
            timer = threading.Timer(_BESIDE_SECONDS, process.kill)
            timer.start()
            try:
                yield process
            finally:
                timer.cancel()
                process.kill()

    def kubectl(self, *arguments: str, seconds: float = _SECONDS) -> str:
        """Run kubectl as the administrator; return what it printed.

        Raises:
            AssertionError: it failed.
        """
        done = self.outside("kubectl", *arguments, seconds=seconds)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """Return objects as ``kubectl get -o json`` prints them."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Any) -> None:
        """Create or change objects."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, file)
            file.flush()
            self.kubectl("apply", "-f", file.name)

    def wait(self, what: str, *which: str, seconds: float = _SECONDS) -> None:
        """Wait for a condition of objects, by ``kubectl wait``."""
        try:
            limit = f"--timeout={seconds:.0f}s"
            self.kubectl("wait", f"--for={what}", limit, *which, seconds=seconds + 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None

    def until(self, check: Callable[[], object], what: str, seconds: float = _SECONDS) -> None:
        """Wait until ``check`` says yes; for what tells nobody that it has changed.

        Raises:
            AssertionError: it did not in time.
        """
        deadline = time.monotonic() + seconds
        while not check():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self.report()}")
            time.sleep(0.5)

    def report(self) -> str:
        """Return what a person would look at first when something is wrong."""
        found = [
            self.outside("kubectl", "get", what, "-A", "-o", "wide").stdout
            for what in ("nodes", "pods", "endpointslices", "events")
        ]
        for guest in self.guests:
            if guest.machine.running():
                done = guest.run("journalctl", "-u", "kubeletpy-*", "-n", "40", "--no-pager")
                found.append(f"== {guest.name}\n{done.output}")
        return "\n".join(found)

    def provision_server(self) -> None:
        """Run the script that makes the server, and fetch its kubeconfig.

        Meanwhile nodes get the package, as if their scripts had been run before.
        """
        four = self.server.address
        environment = {
            "ADDRESS": four, "TOKEN": TOKEN, "RUN_PODS": "yes",
            "POD_CIDR": PODS, "SERVICE_CIDR": SERVICES,
        }  # fmt: skip
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            packaged = threads.map(install_package, self.nodes)
            provision(self.server, "server.sh", environment)
            list(packaged)
        self.kubeconfig.write_text(self.server.must("kubeletpy", "kubeconfig"))

    def join_environment(self, guest: Guest) -> dict[str, str]:
        """Return the variables that make a machine join."""
        line = self.server.must("kubeletpy", "token", "create", "--print-join-command")
        digest = next(word for word in line.split() if word.startswith("sha256:"))
        return {
            "SERVER": f"https://{self.server.address}:6443", "TOKEN": TOKEN,
            "CA_CERT_HASH": digest, "ADDRESS": guest.address,
        }  # fmt: skip

    def provision_nodes(self) -> None:
        """Run the script that makes nodes, on all of them at once."""
        environments = [self.join_environment(guest) for guest in self.nodes]
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(provision, self.nodes, ["node.sh"] * len(self.nodes), environments))

    def wait_nodes(self) -> None:
        """Wait until all nodes are ready."""
        names = [f"node/{guest.name}" for guest in self.guests]
        with told("nodes get ready"):
            self.until(lambda: len(self.get("nodes")["items"]) == len(names), "all nodes are there")
            self.wait("condition=Ready", *names)


def provision(guest: Guest, script: str, environment: dict[str, str]) -> str:
    """Run a provisioning script in a machine as Vagrant does; return what it printed."""
    words = [f"{key}={value}" for key, value in environment.items()]
    with told(f"{script} on {guest.name}"):
        return guest.must("env", *words, "sh", f"{PROVISION}/{script}", seconds=_PROVISION_SECONDS)


def install_package(guest: Guest) -> None:
    """Install the package in a machine as provisioning scripts do."""
    script = f'. {PROVISION}/common.sh; install_package "$(sh {PROVISION}/package.sh)"'
    with told(f"package on {guest.name}"):
        guest.shell(script, seconds=_PROVISION_SECONDS)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tell on the terminal how long something took: a run of these tests takes its time."""
    began = time.monotonic()
    try:
        yield
    finally:
        sys.stderr.write(f"  {time.monotonic() - began:6.1f} s  {what}\n")


@contextmanager
def machines(names: Sequence[str]) -> Iterator[Cluster]:
    """Boot machines of these names, without anything of ours on them; the first is the server."""
    image = ensure_image()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(_directory()))
        data = directory / "data"
        with told("making the package"):
            _make_data(data)
        switch = stack.enter_context(Switch(f"kvm-{os.getpid()}"))
        host = stack.enter_context(registry(directory, GATEWAY[0], switch.inside(())))
        guests = []
        with told("booting"):
            for number, name in enumerate(names):
                guest = Guest(Identity(name, 10 + number), image, data, switch, directory)
                stack.callback(guest.power_off)
                guest.start()
                guests.append(guest)
            for guest in guests:
                guest.wait_up()
        for guest in guests:
            guest.write(f"/etc/containerd/certs.d/{host}/hosts.toml", HOSTS.format(host=host))
        reference = f"{host}/{':'.join(IMAGE)}"
        yield Cluster(switch, guests[0], guests[1:], reference, directory / "kubeconfig")


@contextmanager
def _directory() -> Iterator[str]:
    CACHE.mkdir(exist_ok=True)
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="kvm-") as made:
        yield made


def _make_data(path: Path) -> None:
    """Make the disk that the machines have in place of the Internet: scripts and package."""
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        tree = Path(temporary)
        shutil.copytree(CHECKOUT / "vagrant", tree / "vagrant")
        command = [sys.executable, "-m", "kubeletpy", "package", "deb"]
        command += ["--output", str(tree / "dist")]
        run(command, seconds=600)
        run(["mkfs.ext4", "-q", "-m", "0", "-d", temporary, str(path), "300M"])


@contextmanager
def registry(directory: Path, address: str, prefix: Sequence[str]) -> Iterator[str]:
    """Run a registry that machines can reach, with the tests' image in it; gives where it is.

    Args:
        directory: of its storage.
        address: that it listens on.
        prefix: the beginning of a command line that runs where the address is.
    """
    storage = directory / "registry"
    storage.mkdir()
    with DockerRegistry(storage) as served:
        push(busybox_image({}, config={}), served.host, *IMAGE)
    with DockerRegistry(storage, address=address, prefix=prefix) as served:
        yield served.host
