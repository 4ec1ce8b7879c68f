"""One virtual machine: QEMU's command line, and the process that it is.

The processor is emulated, so that it works on any machine, ones that are virtual themselves too.
``KUBELETPY_VM_ACCELERATOR=kvm`` has the real one where that works, which is ten times as fast.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from tests.vm.image import Image, ImageError, run

_ACCELERATOR: Final = "tcg,thread=multi"
# With newer vector instructions the C library is slower, for they are emulated too. The instruction
# cmpxchg16b, by which newer kernels allocate memory, spoils the flags in QEMU 7.2.
_CPU: Final = "Nehalem,-cx16"
_KERNEL_WORDS: Final = (
    *("console=ttyS0", "panic=-1", "psi=1", "audit=0", "mitigations=off", "random.trust_cpu=on"),
    *("systemd.unified_cgroup_hierarchy=1", "systemd.log_target=kmsg"),
)
FIRMWARE_FILES: Final = Path("/sys/firmware/qemu_fw_cfg/by_name")
_FIRMWARE_PREFIX: Final = "opt/org.kubeletpy/"
_STOP_SECONDS: Final = 30.0
_COMPLAINT: Final = re.compile(
    r"segfault at|general protection|trap invalid opcode|Out of memory|BUG:|Oops|blocked for more"
)


@dataclass(frozen=True)
class Disk:
    """A raw disk of the machine, ``/dev/vda`` for the first one.

    Attributes:
        path: the file that it is.
        readonly: it cannot be written.
        kept: what is written stays in the file; else in a temporary one, gone with the machine.
    """

    path: Path
    readonly: bool = False
    kept: bool = False

    def option(self) -> str:
        """Return the value of ``-drive``."""
        flags = ",readonly=on" if self.readonly else "" if self.kept else ",snapshot=on"
        return f"file={self.path},format=raw,if=virtio,cache=unsafe{flags}"


@dataclass(frozen=True)
class Nic:
    """A network card.

    Attributes:
        backend: what QEMU's ``-netdev`` takes, without the id: ``socket,mcast=230.0.0.1:1234``,
            ``tap,ifname=tap0,script=no,downscript=no``, ``user``.
        mac: its address.
    """

    backend: str
    mac: str


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of.

    Attributes:
        image: kernel and initial file system; its disk is only used where ``disks`` names it.
        disks: the first one holds the root.
        nics: network cards, ``eth0`` for the first one.
        unit: what systemd starts; "" for the default target.
        words: more words of the kernel's command line.
        serials: QEMU's ``-serial`` for ttyS1 and on (``stdio``, ``unix:PATH,server=on,wait=off``).
        files: texts that the machine finds by :func:`firmware_file`.
        options: more of QEMU's.
        cpus, memory: how many, and how much in QEMU's notation.
    """

    image: Image
    disks: Sequence[Disk]
    nics: Sequence[Nic] = ()
    unit: str = ""
    words: Sequence[str] = ()
    serials: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    cpus: int = 2
    memory: str = "2500M"

    def command(self, console: Path) -> list[str]:
        """Return QEMU's command line; ``console`` is the file that takes the kernel's messages."""
        accelerator = os.environ.get("KUBELETPY_VM_ACCELERATOR", _ACCELERATOR)
        command = ["qemu-system-x86_64", "-accel", accelerator, "-cpu", _CPU]
        command += ["-smp", str(self.cpus), "-m", self.memory]
        command += ["-display", "none", "-no-reboot", "-nodefaults", "-device", "virtio-rng-pci"]
        command += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)]
        command += ["-append", self.kernel_line()]
        for disk in self.disks:
            command += ["-drive", disk.option()]
        for number, nic in enumerate(self.nics):
            command += ["-netdev", f"{nic.backend},id=net{number}"]
            command += ["-device", f"virtio-net-pci,netdev=net{number},mac={nic.mac},romfile="]
        if not self.nics:
            command += ["-nic", "none"]
        for name, text in self.files.items():
            # A comma ends QEMU's value, two are one in it.
            escaped = text.replace(",", ",,")
            command += ["-fw_cfg", f"name={_FIRMWARE_PREFIX}{name},string={escaped}"]
        # Appended to: what was written before a restart of the machine is still to be seen.
        command += ["-chardev", f"file,id=console,path={console},append=on"]
        for serial in ("chardev:console", *self.serials):
            command += ["-serial", serial]
        return [*command, *self.options]

    def kernel_line(self) -> str:
        """Return the kernel's command line."""
        unit = [f"systemd.unit={self.unit}"] if self.unit else []
        # The names of cards are those of the kernel: eth0, eth1.
        return " ".join([*_KERNEL_WORDS, "net.ifnames=0", *unit, *self.words])


class Machine:
    """A virtual machine that can be started, and started again with what its disks kept.

    Args:
        hardware: what it is made of.
        directory: where its console goes, and QEMU's temporary files; it has to exist.
        name: for its files.
        prefix: of QEMU's command line: what puts it into another network namespace.
    """

    def __init__(
        self,
        hardware: Hardware,
        directory: Path,
        name: str = "machine",
        prefix: Sequence[str] = (),
    ) -> None:
        self._prefix = list(prefix)
        self.hardware = hardware
        self.directory = directory
        self.console = directory / f"{name}.console"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> IO[bytes]:
        """What the machine writes to the serial line that is ``stdio``."""
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def start(self) -> None:
        """Switch it on."""
        assert self.process is None or self.process.poll() is not None, "it runs"
        self.process = subprocess.Popen(
            [*self._prefix, *self.hardware.command(self.console)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=self.directory,
            env={**os.environ, "TMPDIR": str(self.directory)},
        )

    def running(self) -> bool:
        """Tell whether it is switched on."""
        return self.process is not None and self.process.poll() is None

    def wait(self, seconds: float) -> int:
        """Wait until the machine has switched itself off; return QEMU's exit status.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        assert self.process is not None
        return self.process.wait(seconds)

    def power_off(self) -> None:
        """Cut the power: what the machine had not written to its disks is lost."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(_STOP_SECONDS)
        self.output.close()

    def complaints(self) -> str:
        """Return what the kernel said of programs that crashed and of itself."""
        try:
            lines = self.console.read_bytes().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(filter(_COMPLAINT.search, lines))

    def console_tail(self, amount: int = 4000) -> str:
        """Return the end of what the kernel and systemd wrote."""
        try:
            return self.console.read_bytes()[-amount:].decode("utf-8", "replace")
        except FileNotFoundError:
            return ""


def firmware_file(name: str) -> Path:
    """Return where a machine finds a text of :attr:`Hardware.files`; needs qemu_fw_cfg there."""
    return FIRMWARE_FILES / _FIRMWARE_PREFIX / name / "raw"


def own_disk(image: Image, path: Path, size: str = "") -> Disk:
    """Copy an image's disk to ``path``, for a machine that is to find again what it wrote.

    It gets a journal, since its power may be cut.

    Args:
        image: whose disk.
        path: where the copy goes.
        size: how large it becomes (``8G``; sparse), if it is to be larger.

    Raises:
        ImageError: it cannot be copied.
    """
    run(["cp", "--sparse=always", "--reflink=auto", str(image.disk), str(path)])
    if size:
        run(["resize2fs", "-f", str(path), size])
    run(["tune2fs", "-O", "has_journal", str(path)])
    return Disk(path, kept=True)


def empty_disk(path: Path, size: str) -> Disk:
    """Make a disk with an empty ext4 of ``size`` (``2G``).

    Raises:
        ImageError: it cannot be made.
    """
    with tempfile.TemporaryDirectory() as nothing:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ImageError(f"{path}: {error}") from error
        run(["mkfs.ext4", "-q", "-m", "0", "-d", nothing, str(path), size])
    return Disk(path, kept=True)
