"""An attacker's program: Python in a container, with the interpreter and libraries of the host.

What a shell cannot do from inside (system calls by number, races, tracing) is written in Python
and run with the host's interpreter, which is mounted read-only.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import Node

INTERPRETER = Path(sys.executable).resolve()

# What programs begin with: system calls that Python has no function for (x86_64 and aarch64).
PRELUDE = """
import ctypes, errno, os, signal, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {"keyctl": 250, "add_key": 248, "ptrace": 101, "renameat2": 316, "unshare": 272},
    "aarch64": {"keyctl": 219, "add_key": 217, "ptrace": 117, "renameat2": 276, "unshare": 97},
}[os.uname().machine]
def call(name, *arguments):
    result = libc.syscall(NUMBERS[name], *arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
def tried(what, function):
    try:
        print(what, "DID", function(), flush=True)
    except OSError as error:
        print(what, "failed", errno.errorcode[error.errno], flush=True)
"""


def python_mounts() -> list[cri.Mount]:
    """Return the mounts that Python needs to run in any container."""
    wanted = {Path("/usr"), Path("/lib"), Path("/lib64"), Path(sys.base_prefix).resolve()}
    return [
        cri.Mount(container_path=str(path), host_path=str(path), readonly=True)
        for path in sorted(wanted)
        if path.exists() and (path in (Path("/usr"), Path("/lib"), Path("/lib64"))
                              or not path.is_relative_to("/usr"))
    ]  # fmt: skip


def command(program: str) -> tuple[str, ...]:
    """Return the command line of a program."""
    return (str(INTERPRETER), "-ISBc", PRELUDE + textwrap.dedent(program))


def attack(node: Node, sandbox: str, program: str, *arguments: str, **fields: Any) -> str:
    """Run a program to its end as a container of a pod; return what it wrote.

    The program itself must come to its end: an attack that crashed proves nothing.
    """
    mounts = python_mounts() + list(fields.pop("mounts", []))
    status = node.run_to_end(sandbox, *command(program), *arguments, mounts=mounts, **fields)
    output = node.output(status)
    assert status.exit_code == 0, (status, output)
    return output
