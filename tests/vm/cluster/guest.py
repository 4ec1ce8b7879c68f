"""One machine of the cluster: its disk, its place on the switch, and what can be done to it.

The image is that of the one-machine tests. What a machine of its own needs besides (name, address,
the agent) is in a second archive behind the initial file system, whose ``init`` copies it to the
root before systemd starts.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.vm.cluster import agent
from tests.vm.cluster.switch import GATEWAY, Switch
from tests.vm.image import Image
from tests.vm.machine import Disk, Hardware, Machine, Nic, own_disk

BOOT_SECONDS: Final = 600.0
"""Emulated, on a machine that has other things to do."""
_CALL_SECONDS: Final = 300.0
_PORT: Final = "agent"
_AGENT: Final = "usr/local/lib/kubeletpy-agent.py"
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done < /modules/order
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
/bin/busybox cp -a /extra/. /root/
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""
# Without the coldplug of udev, which takes a minute when emulated: what is needed is loaded here.
_UNIT: Final = f"""\
[Unit]
Description=Does what the tests ask
After=systemd-udevd.service
[Service]
ExecStartPre=/sbin/modprobe -a virtio_net virtio_console
ExecStartPre=/bin/sh -c 'mountpoint -q /srv/data || mount -o ro /dev/vdb /srv/data'
ExecStart=/usr/bin/python3 /{_AGENT}
Restart=always
StandardError=journal+console
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target
"""
_MASKED: Final = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("fstrim.timer", "man-db.timer", "podman-auto-update.timer", "systemd-tmpfiles-clean.timer"),
    *("containerd.service", "docker-registry.service", "nginx.service", "e2scrub_reap.service"),
    *("podman.service", "podman.socket", "podman-auto-update.service", "podman-restart.service"),
    *("nfs-server.service", "nfs-blkmap.service", "rpcbind.service", "rpcbind.socket"),
    *("rpc-statd.service", "nfs-client.target", "systemd-udev-trigger.service"),
    *("serial-getty@ttyS0.service", "getty.target", "podman-clean-transient.service"),
)
_NETWORK: Final = """\
[Match]
Name=eth0
[Network]
Address={four}/24
Address={six}/64
Gateway={gateway}
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
ConfigureWithoutCarrier=yes
"""


class GuestError(Exception):
    """A machine did not do what was asked; the message has its console's end."""


@dataclass(frozen=True)
class Result:
    """What a command in a machine gave.

    Attributes:
        status: its exit status.
        output, errors: what it wrote.
    """

    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Identity:
    """Who a machine is.

    Attributes:
        name: of the host.
        number: its addresses end with it.
    """

    name: str
    number: int

    @property
    def addresses(self) -> tuple[str, str]:
        """IPv4 and IPv6."""
        return f"192.168.121.{self.number}", f"fd00:121::{self.number}"

    @property
    def mac(self) -> str:
        """Of its network card."""
        return f"52:54:00:12:01:{self.number:02x}"

    @property
    def port(self) -> str:
        """Of the switch."""
        return f"vm{self.number}"

    def files(self) -> dict[str, str]:
        """Return the files that make a copy of the image this machine."""
        four, six = self.addresses
        network = _NETWORK.format(four=four, six=six, gateway=GATEWAY[0])
        return {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{four} {self.name}\n",
            "etc/machine-id": f"{self.number:032x}\n",
            "etc/resolv.conf": "options timeout:1 attempts:1\n",
            "etc/systemd/network/10-lan.network": network,
            "etc/systemd/system/kubeletpy-agent.service": _UNIT,
            _AGENT: Path(agent.__file__).read_text(),
        }


class Guest:
    """A machine on the switch, powered off at first.

    Args:
        identity: who it is.
        image: what its disk is copied from.
        data: a disk that is read only, mounted at ``/srv/data``.
        switch: where it is plugged in.
        directory: for its disk and console; it has to exist, with a short path.
    """

    def __init__(
        self, identity: Identity, image: Image, data: Path, switch: Switch, directory: Path
    ) -> None:
        self.identity, self.name = identity, identity.name
        self._switch = switch
        self._socket = directory / f"{self.name}.agent"
        tap = f"tap,ifname={identity.port},script=no,downscript=no"
        self.disk = own_disk(image, directory / f"{self.name}.disk", "6G")
        initrd = directory / f"{self.name}.initrd"
        base = image.initrd.read_bytes()
        # The kernel looks for the next archive at a multiple of four.
        initrd.write_bytes(base + bytes(-len(base) % 4) + _archive(identity.files()))
        self.machine = Machine(
            Hardware(
                image=replace(image, initrd=initrd),
                disks=(self.disk, Disk(data, readonly=True)),
                nics=(Nic(tap, identity.mac),),
                cpus=1,
                memory="1800M",
                options=(
                    *("-device", "virtio-serial-pci"),
                    *("-chardev", f"socket,id=agent,path={self._socket},server=on,wait=off"),
                    *("-device", f"virtserialport,chardev=agent,name={_PORT},nr=1"),
                    *("-uuid", f"12345678-0000-4000-8000-{identity.number:012x}"),
                ),
            ),
            directory,
            self.name,
            prefix=switch.inside(()),
        )
        self._line: _Line | None = None
        self.boot = ""
        """The boot id, of the kernel that runs."""

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return self.identity.addresses[0]

    def start(self) -> None:
        """Switch it on; :meth:`wait_up` says when it can be talked to."""
        self._switch.plug(self.identity.port)
        self._socket.unlink(missing_ok=True)
        self.machine.start()
        self._line = None

    def wait_up(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until the agent answers.

        Raises:
            GuestError: it does not.
        """
        deadline = time.monotonic() + seconds
        self._line = _Line(self._socket, deadline)
        try:
            self.boot = self._line.booted.result(deadline - time.monotonic())
        except TimeoutError:
            raise GuestError(
                f"{self.name} did not boot within {seconds:.0f} s:\n{self.machine.console_tail()}"
            ) from None

    def run(self, *command: str, text: str = "", seconds: float = _CALL_SECONDS) -> Result:
        """Run a command in the machine, whatever its exit status.

        Raises:
            GuestError: it could not be run, or took longer than ``seconds``.
        """
        if self._line is None:
            raise GuestError(f"{self.name} is switched off, or was not waited for")
        try:
            return self._line.ask(command, text, seconds)
        except (OSError, TimeoutError) as error:
            tail = self.machine.console_tail(2000)
            raise GuestError(
                f"{self.name}: {' '.join(command)[:300]}: {error or 'no answer'}\n{tail}"
            ) from error

    def must(self, *command: str, text: str = "", seconds: float = _CALL_SECONDS) -> str:
        """Run a command that is to succeed; return its output.

        Raises:
            GuestError: it did not.
        """
        result = self.run(*command, text=text, seconds=seconds)
        if result.status != 0:
            raise GuestError(
                f"{self.name}: {' '.join(command)[:300]} ended with {result.status}:\n"
                f"{result.output[-3000:]}\n{result.errors[-3000:]}"
            )
        return result.output

    def shell(self, script: str, seconds: float = _CALL_SECONDS) -> str:
        """Run a shell script that is to succeed; return its output.

        Raises:
            GuestError: it did not.
        """
        return self.must("sh", "-euc", script, seconds=seconds)

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine, and the directories above it.

        Raises:
            GuestError: it cannot be written.
        """
        self.must("sh", "-c", f'mkdir -p "$(dirname {path})" && cat > {path}', text=text)

    def cut(self) -> None:
        """Pull its network cable."""
        self._switch.cut(self.identity.port)

    def mend(self) -> None:
        """Plug its network cable in again."""
        self._switch.plug(self.identity.port)

    def power_off(self) -> None:
        """Cut its power: what it had not written to its disk is lost."""
        self.machine.power_off()
        if self._line is not None:
            self._line.close()
            self._line = None


class _Line:
    """The connection to the agent of a machine that runs."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.booted: Future[str] = Future()
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._socket = _connect(path, deadline)
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, command: Sequence[str], text: str, seconds: float) -> Result:
        """Run a command and return its result.

        Raises:
            OSError: it could not be run, or the machine ended.
            TimeoutError: no answer came in time.
        """
        number = next(self._numbers)
        answer = self._answers[number] = Future()
        request = {"id": number, "command": list(command), "input": text, "seconds": seconds}
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        try:
            # The agent's own clock may be slow.
            found = answer.result(2 * seconds + 60)
        finally:
            self._answers.pop(number, None)
        if "failure" in found:
            raise OSError(found["failure"])
        return Result(found["status"], found["output"], found["errors"])

    def close(self) -> None:
        """End the connection; whoever waits gets an error."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "boot" in message:
                    if not self.booted.done():
                        self.booted.set_result(message["boot"])
                elif answer := self._answers.get(message["id"]):
                    answer.set_result(message)
        for answer in list(self._answers.values()):
            answer.set_exception(OSError("the machine ended"))


def _connect(path: Path, deadline: float) -> socket.socket:
    while True:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(str(path))
            return made
        except OSError:
            made.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # QEMU tells nobody that it listens


def _archive(files: dict[str, str]) -> bytes:
    """Return a compressed archive (cpio) of what is laid over the image."""
    with tempfile.TemporaryDirectory() as temporary:
        extra = Path(temporary, "extra")
        for name, text in files.items():
            path = extra / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        wants = extra / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        own = "kubeletpy-agent.service"
        (wants / own).symlink_to(f"/etc/systemd/system/{own}")
        for unit in _MASKED:
            (wants.parent / unit).symlink_to("/dev/null")
        (wants / "systemd-networkd.service").symlink_to(
            "/lib/systemd/system/systemd-networkd.service"
        )
        (extra / "srv/data").mkdir(parents=True)
        init = Path(temporary, "init")
        init.write_text(_INIT)
        init.chmod(0o755)
        listing = subprocess.run(
            ["find", "."], cwd=temporary, capture_output=True, check=True
        ).stdout
        busybox = shutil.which("busybox") or "busybox"
        packed = subprocess.run(
            [busybox, "cpio", "-o", "-H", "newc"], cwd=temporary, input=listing,
            capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        return packed.stdout
