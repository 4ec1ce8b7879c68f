"""Boot the virtual machine and run tests in it: cgroup v2, systemd as PID 1.

    sudo .venv/bin/python -m tests.vm [--brief] [--seconds N] [PYTEST ARGUMENT...]
    sudo .venv/bin/python -m tests.vm --make

What they print is printed; the exit status is theirs. Which tests run without pytest's arguments is
in :mod:`tests.vm.inside.chosen`. ``--make`` only makes the disk, which is kept.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from kubeletpy import debian
from tests.vm.image import CACHE, PACKAGES, UNIT, ImageError, ensure_image, make_data_disk
from tests.vm.machine import Disk, Hardware, Machine

_SECONDS: Final = 3600.0
_BRIEF_SECONDS: Final = 600.0
_QUIET: Final = 0.5  # of the time allowed, without a line: the machine hangs, or never came up
_EXIT: Final = re.compile(rb"vm-exit: (\d+)")


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        make: only make the image.
        seconds: how long the machine may take.
        files: what it is told, see :class:`Hardware`.
    """

    make: bool
    seconds: float
    files: dict[str, str]


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line (pure); what is not ours is pytest's."""
    parser = argparse.ArgumentParser(prog="tests.vm", allow_abbrev=False)
    parser.add_argument("--make", action="store_true", help="only make the machine's disk")
    parser.add_argument("--brief", action="store_true", help="the essence, in minutes")
    parser.add_argument("--seconds", type=float, help="how long the machine may take")
    ours, rest = parser.parse_known_args(arguments)
    seconds = ours.seconds or (_BRIEF_SECONDS if ours.brief else _SECONDS)
    what = "\n".join(rest) or ("brief" if ours.brief else "all")
    return Options(ours.make, seconds, {"arguments": what, "seconds": f"{seconds:.0f}"})


def main(arguments: Sequence[str]) -> int:
    """Make what is missing, boot, run; return the exit status of the tests."""
    options = parse(arguments)
    if os.geteuid() != 0:
        print("tests.vm: needs root, to make the machine's disk")
        return 1
    try:
        debian.install(debian.missing(PACKAGES))
        began = time.monotonic()
        image = ensure_image()
        if options.make:
            print(f"tests.vm: image ready after {time.monotonic() - began:.0f} s")
            return 0
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as temporary:
            data = Path(temporary, "data")
            make_data_disk(data)
            print(f"tests.vm: disks ready after {time.monotonic() - began:.0f} s", flush=True)
            hardware = Hardware(
                image,
                # What is written goes to a temporary file: the image stays as it was made.
                (Disk(image.disk), Disk(data, readonly=True)),
                unit=UNIT,
                serials=("stdio",),
                files=options.files,
            )
            return _run(Machine(hardware, Path(temporary)), options.seconds)
    except (debian.PackageError, ImageError) as error:
        print(f"tests.vm: {error}")
        return 1


def _run(machine: Machine, seconds: float) -> int:
    began = time.monotonic()
    machine.start()
    try:
        status = _follow(machine.output, began, seconds)
    finally:
        machine.power_off()
    if status is None:
        tail = machine.console_tail()
        print(f"tests.vm: the machine ended without a result; its console:\n{tail}")
        return 1
    print(f"tests.vm: {time.monotonic() - began:.0f} s in the machine", flush=True)
    return status


def _follow(output: IO[bytes], began: float, seconds: float) -> int | None:
    """Print what the tests print, and return their exit status; None if there is none."""
    stream = output.fileno()
    seen = b""
    while (left := began + seconds - time.monotonic()) > 0:
        if not select.select([stream], [], [], min(left, seconds * _QUIET))[0]:
            break
        chunk = os.read(stream, 1 << 16)
        if not chunk:
            break
        sys.stdout.write(chunk.decode("utf-8", "replace").replace("\r\n", "\n"))
        sys.stdout.flush()
        seen = seen[-200:] + chunk
        if found := _EXIT.search(seen + b"\n"):
            return int(found[1])
    print(f"tests.vm: no end within {seconds:.0f} s, or nothing to be seen for half of that")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
