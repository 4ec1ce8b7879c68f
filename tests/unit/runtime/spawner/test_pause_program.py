from __future__ import annotations

import os
import platform

import pytest

from runtime.spawner.pause_program import image, open_program


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is for x86-64 only")
def test_it_is_a_program_that_nobody_can_change() -> None:
    descriptor = open_program()
    assert os.pread(descriptor, 4096, 0) == image()
    assert os.fstat(descriptor).st_mode & 0o777 == 0o111
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.truncate(descriptor, 0)
    os.close(descriptor)


def test_the_name_lies_where_the_code_looks_for_it() -> None:
    content = image()
    # lea rsi, [rip + offset]: counted from the next instruction.
    lea = content.index(b"\x48\x8d\x35")
    offset = int.from_bytes(content[lea + 3 : lea + 7], "little")
    assert content[lea + 7 + offset :] == b"pause\0"
