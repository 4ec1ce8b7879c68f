"""Device rules as a BPF program (pure)."""

from __future__ import annotations

from typing import Final

from kubeletpy_common.cgroups.devices import Device, DevicePolicy
from kubeletpy_common.linux import bpf
from kubeletpy_common.linux.bpf import Instruction

_TYPES: Final = {"b": bpf.DEVICE_BLOCK, "c": bpf.DEVICE_CHARACTER}
_BITS: Final = {"r": bpf.ACCESS_READ, "w": bpf.ACCESS_WRITE, "m": bpf.ACCESS_MKNOD}
_ALL_BITS: Final = bpf.ACCESS_READ | bpf.ACCESS_WRITE | bpf.ACCESS_MKNOD

# Registers: 0 result, 1 context, 2 type, 3 access, 4 major, 5 minor, 6 scratch.
_RESULT, _TYPE, _ACCESS, _MAJOR, _MINOR, _SCRATCH = 0, 2, 3, 4, 5, 6


def device_program(policy: DevicePolicy) -> list[Instruction] | None:
    """Return the program that enforces ``policy``; None if there is nothing to enforce.

    It reads type, access, major and minor from its context, goes through the exceptions, and
    returns the opposite of the default at the first that applies (see
    :mod:`kubeletpy_common.cgroups.devices` for when one applies).
    """
    if policy.allow_by_default and not policy.exceptions:
        return None
    program = [
        bpf.load_context(_TYPE, bpf.CONTEXT_ACCESS_TYPE),
        bpf.copy(_ACCESS, _TYPE),
        bpf.mask(_TYPE, 0xFFFF),
        bpf.shift_right(_ACCESS, 16),
        bpf.load_context(_MAJOR, bpf.CONTEXT_MAJOR),
        bpf.load_context(_MINOR, bpf.CONTEXT_MINOR),
    ]
    for device, access in policy.exceptions.items():
        program += _exception(device, access, allow=not policy.allow_by_default)
    return [*program, bpf.move(_RESULT, int(policy.allow_by_default)), bpf.leave()]


def _exception(device: Device, access: frozenset[str], *, allow: bool) -> list[Instruction]:
    block = [bpf.move(_RESULT, int(allow)), bpf.leave()]
    bits = sum(_BITS[letter] for letter in access)
    if allow and bits != _ALL_BITS:
        # Applies only if nothing is asked for beyond the letters.
        asked_beyond = [bpf.copy(_SCRATCH, _ACCESS), bpf.mask(_SCRATCH, _ALL_BITS & ~bits)]
        block = [*asked_beyond, bpf.jump_unless_equal(_SCRATCH, 0, len(block)), *block]
    elif not allow and bits != _ALL_BITS:
        # Applies if any of the letters is asked for.
        asked = [bpf.copy(_SCRATCH, _ACCESS), bpf.mask(_SCRATCH, bits)]
        block = [*asked, bpf.jump_if_equal(_SCRATCH, 0, len(block)), *block]
    # Built from the end, since each jump skips all that follows in this block.
    for register, number in ((_MINOR, device.minor), (_MAJOR, device.major)):
        if number is not None:
            block = [bpf.jump_unless_equal(register, number, len(block)), *block]
    return [bpf.jump_unless_equal(_TYPE, _TYPES[device.type], len(block)), *block]
