"""Boot the virtual machine and run the tests of :mod:`tests.vm.inside` in it.

    sudo .venv/bin/python -m tests.vm [PYTEST ARGUMENT...]

What they print is printed; the exit status is theirs.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kubeletpy import debian
from tests.vm.image import CACHE, PACKAGES, UNIT, Image, ImageError, ensure_image, make_data_disk

_SECONDS: Final = 1800.0
_QUIET_SECONDS: Final = 600.0  # without a line: the machine hangs, or never came up
_EXIT: Final = re.compile(rb"vm-exit: (\d+)")
# With newer vector instructions the C library is slower, for they are emulated too.
_CPU: Final = "Nehalem"
_MEMORY: Final = "2500M"
_KERNEL_LINE: Final = (
    f"console=ttyS0 panic=-1 psi=1 audit=0 mitigations=off random.trust_cpu=on systemd.unit={UNIT} "
    "systemd.unified_cgroup_hierarchy=1 systemd.log_target=kmsg"
)


def main(arguments: Sequence[str]) -> int:
    """Make what is missing, boot, run; return the exit status of the tests."""
    if os.geteuid() != 0:
        print("tests.vm: needs root, to make the machine's disk")
        return 1
    try:
        debian.install(debian.missing(PACKAGES))
        began = time.monotonic()
        image = ensure_image()
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as temporary:
            data = Path(temporary, "data")
            make_data_disk(data)
            print(f"tests.vm: disks ready after {time.monotonic() - began:.0f} s", flush=True)
            return _boot(image, data, Path(temporary), arguments)
    except (debian.PackageError, ImageError) as error:
        print(f"tests.vm: {error}")
        return 1


def _boot(image: Image, data: Path, directory: Path, arguments: Sequence[str]) -> int:
    console = directory / "console"
    listing = "\n".join(arguments)
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi"]
    command += ["-cpu", _CPU, "-smp", "2", "-m", _MEMORY, "-display", "none", "-no-reboot"]
    command += ["-nodefaults", "-nic", "none", "-device", "virtio-rng-pci"]
    command += ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    command += ["-append", _KERNEL_LINE]
    # What is written goes to a temporary file: the image stays as it was made.
    command += ["-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on,cache=unsafe"]
    command += ["-drive", f"file={data},format=raw,if=virtio,readonly=on"]
    command += ["-fw_cfg", f"name=opt/org.kubeletpy/arguments,string={listing or '-'}"]
    command += ["-serial", f"file:{console}", "-serial", "stdio"]
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=directory
    )
    try:
        status = _follow(process, began)
    finally:
        process.kill()
        process.wait()
    if status is None:
        tail = console.read_bytes()[-4000:].decode("utf-8", "replace") if console.exists() else ""
        print(f"tests.vm: the machine ended without a result; its console:\n{tail}")
        return 1
    print(f"tests.vm: {time.monotonic() - began:.0f} s in the machine", flush=True)
    return status


def _follow(process: subprocess.Popen[bytes], began: float) -> int | None:
    """Print what the tests print, and return their exit status; None if there is none."""
    assert process.stdout is not None
    stream = process.stdout.fileno()
    seen = b""
    while time.monotonic() - began < _SECONDS:
        if not select.select([stream], [], [], _QUIET_SECONDS)[0]:
            break
        chunk = os.read(stream, 1 << 16)
        if not chunk:
            break
        sys.stdout.write(chunk.decode("utf-8", "replace").replace("\r\n", "\n"))
        sys.stdout.flush()
        seen = seen[-200:] + chunk
        if found := _EXIT.search(seen + b"\n"):
            return int(found[1])
    print("tests.vm: no end within the time allowed")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
