"""A program that waits, in a few bytes: what the first process of a shared PID namespace becomes.

As an interpreter it would keep 1.6 MiB of every pod for nothing but waiting. What it has to do
besides, the kernel does for a process that ignores SIGCHLD: it reaps whoever is left to it
(wait(2), "NOTES"), and a program started by execve(2) goes on ignoring what was ignored before.
"""

from __future__ import annotations

from kubeletpy_common.linux.programs import executable, sealed

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_CODE: Final = (
    b"\xbf\x0f\x00\x00\x00"  # mov edi, 15: PR_SET_NAME
    b"\x48\x8d\x35\x10\x00\x00\x00"  # lea rsi, [rip + 16]: the name behind the code
    b"\xb8\x9d\x00\x00\x00"  # mov eax, 157: prctl
    b"\x0f\x05"  # syscall
    b"\xb8\x22\x00\x00\x00"  # mov eax, 34: pause
    b"\x0f\x05"  # syscall
    b"\xeb\xf7"  # jmp to the move before it
    b"pause\x00"
)


def image() -> bytes:
    """Return it as an executable."""
    return executable(_CODE)


def open_program() -> int:
    """Return a descriptor of it; -1: there is none (:func:`programs.sealed`)."""
    return sealed("pause", image())
