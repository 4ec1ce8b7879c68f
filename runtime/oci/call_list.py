"""Lists of system calls, laid out for the program that carries them out (pure).

An area at a fixed address holds what the program itself needs, and from :data:`MESSAGE` on what it
was sent last: the address of the first call, data, calls. A call is nine words of 64 bits: its
number, six arguments, two halves of a word that say where to go on (after a result above 0, which
is kept; after an error), and the errors that count as success. A negative number ends the list.

:source: runtime/shim/launcher_program.py; numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl
"""

from __future__ import annotations

import os
import struct

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

AREA: Final = 0x10000000
"""Its address."""
AREA_SIZE: Final = 1 << 20
RESULT: Final = AREA + 0x100
"""Where the last kept result is (64 bits), or the last error and the address of its call (32)."""
RESULT_SIZE: Final = 8
MESSAGE: Final = AREA + 0x200
AGAIN_SIZE: Final = 8
"""So many bytes of the message before have that one carried out once more."""
MAX_SIZE: Final = 64 << 10
"""Bytes of a list: what a message surely holds."""

NUMBERS: Final = {
    "write": 1, "close": 3, "rt_sigaction": 13, "execve": 59, "fchdir": 81, "umask": 95,
    "setsid": 112, "setgroups": 116, "setresuid": 117, "setresgid": 119, "capset": 126,
    "prctl": 157, "setrlimit": 160, "exit_group": 231, "keyctl": 250, "openat": 257, "dup3": 292,
    "setns": 308, "seccomp": 317, "clone3": 435, "close_range": 436, "openat2": 437,
}  # fmt: skip

_CALL: Final = struct.Struct("<7QIIQ")
_POINTER: Final = struct.Struct("<Q")
_MASK: Final = (1 << 64) - 1
_MAX_EXPECTED: Final = 3


class TooLongError(Exception):
    """The list does not fit into a message."""


class CallList:
    """Builds one.

    Attributes:
        steps: of each call, by its address: what it does in words, and why it fails ("": as the
            error says).
    """

    def __init__(self) -> None:
        self.steps: dict[int, tuple[str, str]] = {}
        self._data = bytearray()
        self._calls: list[tuple[tuple[str, str], int, list[int], str, str, int]] = []
        self._marks: dict[str, int] = {}
        self._step = ("", "")

    def step(self, text: str, reason: str = "") -> None:
        """Say what the calls from here on do, and why they fail if the error does not say it."""
        self._step = (text, reason)

    def mark(self, name: str) -> None:
        """Name the place of the next call."""
        self._marks[name] = len(self._calls)

    def data(self, content: bytes) -> int:
        """Add data that calls point at; return its address."""
        address = MESSAGE + _POINTER.size + len(self._data)
        self._data += content + bytes(-len(content) % 8)
        return address

    def text(self, content: str) -> int:
        """Add a text as the kernel takes it; return its address.

        Raises:
            ValueError: it holds a NUL.
        """
        encoded = os.fsencode(content)
        if b"\0" in encoded:
            raise ValueError("embedded null byte")
        return self.data(encoded + b"\0")

    def texts(self, contents: Iterable[str]) -> int:
        """Add a list of texts, as execve(2) takes them; return its address."""
        addresses = [self.text(each) for each in contents]
        return self.data(struct.pack(f"<{len(addresses) + 1}Q", *addresses, 0))

    def call(
        self,
        name: str,
        *arguments: int,
        expected: tuple[int, ...] = (),
        above_zero: str = "",
        failed: str = "failed",
    ) -> None:
        """Add a call.

        Args:
            name: of the system call.
            arguments: numbers, and addresses of data.
            expected: errors after which the next call is made as after success.
            above_zero: the mark to go on from after a result above 0, which is kept; "": the next.
            failed: the mark to go on from after an error.
        """
        assert len(expected) <= _MAX_EXPECTED
        values = [argument & _MASK for argument in arguments] + [0] * (6 - len(arguments))
        errors = int.from_bytes(bytes(expected), "little")
        self._calls.append((self._step, NUMBERS[name], values, above_zero, failed, errors))

    def end(self) -> None:
        """Have the list end here."""
        self._calls.append((("", ""), _MASK, [0] * 6, "", "", 0))

    def assemble(self) -> bytes:
        """Return the message.

        Raises:
            TooLongError: it is larger than :data:`MAX_SIZE`.
            KeyError: a mark is missing.
        """
        first = MESSAGE + _POINTER.size + len(self._data)
        if first - MESSAGE + len(self._calls) * _CALL.size > MAX_SIZE:
            raise TooLongError(f"{len(self._calls)} system calls, {len(self._data)} bytes of data")
        addresses = {name: first + at * _CALL.size for name, at in self._marks.items()}
        addresses[""] = 0
        message = bytearray(_POINTER.pack(first) + self._data)
        for step, number, values, above_zero, failed, errors in self._calls:
            self.steps[MESSAGE + len(message)] = step
            targets = (addresses[above_zero], addresses[failed])
            message += _CALL.pack(number, *values, *targets, errors)
        return bytes(message)
