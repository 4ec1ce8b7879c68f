"""Boot the virtual machine and run the tests of :mod:`tests.vm.inside` in it.

    sudo .venv/bin/python -m tests.vm [PYTEST ARGUMENT...]

What they print is printed; the exit status is theirs.
"""

from __future__ import annotations

import os
import re
import select
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from kubeletpy import debian
from tests.vm.image import CACHE, PACKAGES, UNIT, Image, ImageError, ensure_image, make_data_disk
from tests.vm.machine import Disk, Hardware, Machine

_SECONDS: Final = 1800.0
_QUIET_SECONDS: Final = 600.0  # without a line: the machine hangs, or never came up
_EXIT: Final = re.compile(rb"vm-exit: (\d+)")


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
    hardware = Hardware(
        image,
        # What is written goes to a temporary file: the image stays as it was made.
        (Disk(image.disk), Disk(data, readonly=True)),
        unit=UNIT,
        serials=("stdio",),
        files={"arguments": "\n".join(arguments) or "-"},
    )
    machine = Machine(hardware, directory)
    began = time.monotonic()
    machine.start()
    try:
        status = _follow(machine.output, began)
    finally:
        machine.power_off()
    if status is None:
        tail = machine.console_tail()
        print(f"tests.vm: the machine ended without a result; its console:\n{tail}")
        return 1
    print(f"tests.vm: {time.monotonic() - began:.0f} s in the machine", flush=True)
    return status


def _follow(output: IO[bytes], began: float) -> int | None:
    """Print what the tests print, and return their exit status; None if there is none."""
    stream = output.fileno()
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
