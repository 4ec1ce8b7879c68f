"""Boot the virtual machine and run tests in it: cgroup v2, systemd as PID 1.

    sudo .venv/bin/python -m tests.vm [--brief] [--seconds N] [PYTEST ARGUMENT...]
    sudo .venv/bin/python -m tests.vm --long [--test-seconds N] [PYTEST ARGUMENT...]
    sudo .venv/bin/python -m tests.vm --system debian-13 --brief
    sudo .venv/bin/python -m tests.vm --benchmark [ARGUMENT OF benchmarks...]
    sudo .venv/bin/python -m tests.vm --make

What they print is printed; the exit status is theirs. Which tests run without pytest's arguments is
in :mod:`tests.vm.inside.chosen`. ``--long`` is for the privileged tests of bare machines: it has
them wait longer, ends each one that takes too long, stops in time, and counts by folder. ``--make``
only makes the disk, which is kept.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from kubeletpy import bootstrap, debian
from tests.vm import systems
from tests.vm.image import CACHE, PACKAGES, UNIT, ImageError, ensure_image, make_data_disk
from tests.vm.machine import Disk, Hardware, Machine

_SECONDS: Final = 3600.0
_BRIEF_SECONDS: Final = 600.0
_LONG_SECONDS: Final = 6 * 3600.0
_TEST_SECONDS: Final = 900.0
_QUIET: Final = 0.5  # of the time allowed, without a line: the machine hangs, or never came up
_EXIT: Final = re.compile(rb"vm-exit: (\d+)")


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        make: only make the image.
        seconds: how long the machine may take.
        quiet: how long it may print nothing.
        files: what the machine is told, see :func:`make_data_disk`.
        system: what it is; "" for what the environment says.
    """

    make: bool
    seconds: float
    quiet: float
    files: dict[str, str]
    system: str = ""


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line (pure); what is not ours is pytest's."""
    parser = argparse.ArgumentParser(prog="tests.vm", allow_abbrev=False)
    parser.add_argument("--make", action="store_true", help="only make the machine's disk")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--brief", action="store_true", help="the essence, in minutes")
    form.add_argument("--long", action="store_true", help="tests of bare machines, in hours")
    form.add_argument("--benchmark", action="store_true", help="pods by us and by containerd")
    parser.add_argument("--seconds", type=float, help="how long the machine may take")
    parser.add_argument(
        "--test-seconds", type=float, default=_TEST_SECONDS,
        help="with --long: how long one test may take (default: %(default).0f)",
    )  # fmt: skip
    parser.add_argument(
        "--system", default="", choices=("", *systems.SYSTEMS),
        help="what the machine is: %(choices)s; without it the Debian that has this Python",
    )  # fmt: skip
    ours, rest = parser.parse_known_args(arguments)
    form_name = "brief" if ours.brief else "long" if ours.long else "all"
    seconds = ours.seconds or {"brief": _BRIEF_SECONDS, "long": _LONG_SECONDS}.get(
        form_name, _SECONDS
    )
    files = {"arguments": "\n".join(rest) or form_name, "seconds": f"{seconds:.0f}"}
    quiet = seconds * _QUIET
    if ours.benchmark:
        files = {"arguments": "\n".join(rest), "benchmark": "", "seconds": f"{seconds:.0f}"}
    if ours.long:
        files["test-seconds"] = f"{ours.test_seconds:.0f}"
        quiet = 2 * ours.test_seconds + _BRIEF_SECONDS
    return Options(ours.make, seconds, quiet, files, ours.system)


def main(arguments: Sequence[str]) -> int:
    """Make what is missing, boot, run; return the exit status of the tests."""
    options = parse(arguments)
    # The machine is a child that outlives a parent which is ended.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if os.geteuid() != 0:
        print("tests.vm: needs root, to make the machine's disk")
        return 1
    try:
        debian.install(debian.missing(PACKAGES))
        system = systems.chosen(
            {systems.VARIABLE: options.system} if options.system else os.environ
        )
        began = time.monotonic()
        image = ensure_image(system=system)
        packages = systems.packages_for(system)
        if options.make:
            print(f"tests.vm: image ready after {time.monotonic() - began:.0f} s")
            return 0
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as temporary:
            data = Path(temporary, "data")
            absent = [each.program for each in debian.TESTS if each.name in system.absent]
            files = options.files | ({"without": " ".join(absent)} if absent else {})
            make_data_disk(data, packages, files)
            print(
                f"tests.vm: disks of {system.name} ready after {time.monotonic() - began:.0f} s",
                flush=True,
            )
            hardware = Hardware(
                image,
                # What is written goes to a temporary file: the image stays as it was made.
                (Disk(image.disk), Disk(data, readonly=True)),
                unit=UNIT,
                # Debian 13 mounts one over what is in /tmp when a service asks for its own.
                words=("systemd.mask=tmp.mount",),
                serials=("stdio",),
            )
            return _run(Machine(hardware, Path(temporary)), options)
    except (debian.PackageError, bootstrap.BootstrapError, ImageError) as error:
        print(f"tests.vm: {error}")
        return 1


def _run(machine: Machine, options: Options) -> int:
    began = time.monotonic()
    machine.start()
    try:
        status = _follow(machine.output, began, options)
    finally:
        machine.power_off()
    if status is None:
        tail = machine.console_tail()
        print(f"tests.vm: the machine ended without a result; its console:\n{tail}")
        return 1
    if status and (complaints := machine.complaints()):
        print(f"tests.vm: the machine's kernel complained:\n{complaints}")
    print(f"tests.vm: {time.monotonic() - began:.0f} s in the machine", flush=True)
    return status


def _follow(output: IO[bytes], began: float, options: Options) -> int | None:
    """Print what the tests print, and return their exit status; None if there is none."""
    stream = output.fileno()
    seen = b""
    while (left := began + options.seconds - time.monotonic()) > 0:
        if not select.select([stream], [], [], min(left, options.quiet))[0]:
            break
        chunk = os.read(stream, 1 << 16)
        if not chunk:
            break
        sys.stdout.write(chunk.decode("utf-8", "replace").replace("\r\n", "\n"))
        sys.stdout.flush()
        seen = seen[-200:] + chunk
        if found := _EXIT.search(seen + b"\n"):
            return int(found[1])
    print(
        f"tests.vm: no end within {options.seconds:.0f} s, "
        f"or nothing to be seen for {options.quiet:.0f} s"
    )
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
