"""Device rules: the reduced form, what v1 writes, and what the program of v2 answers.

The program is run by a small interpreter of the few instructions it is made of, so that all kinds
of accesses are tried without privilege; tests/root runs it in the kernel.
"""

from __future__ import annotations

import struct

import pytest

from kubeletpy_common.cgroups import CgroupError, DevicePolicy, DeviceRule
from kubeletpy_common.cgroups.v2.device_program import device_program
from kubeletpy_common.linux import bpf
from kubeletpy_common.linux.bpf import Instruction

DENY_ALL = DeviceRule(False)
NULL = DeviceRule(True, "c", 1, 3, "rwm")
BITS = {"r": bpf.ACCESS_READ, "w": bpf.ACCESS_WRITE, "m": bpf.ACCESS_MKNOD}
TYPES = {"b": bpf.DEVICE_BLOCK, "c": bpf.DEVICE_CHARACTER}


def run(program: list[Instruction], context: bytes) -> int:
    registers = [0] * 11
    position = 0
    while True:
        opcode, target, source, offset, value = program[position]
        value &= 0xFFFFFFFF
        position += 1
        if opcode == 0x61:
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif opcode == 0xB4:
            registers[target] = value
        elif opcode == 0xBC:
            registers[target] = registers[source]
        elif opcode == 0x54:
            registers[target] &= value
        elif opcode == 0x74:
            registers[target] >>= value
        elif opcode == 0x16:
            position += offset if registers[target] == value else 0
        elif opcode == 0x56:
            position += offset if registers[target] != value else 0
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"no such instruction: {opcode:#x}")


def allowed(rules: list[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    program = device_program(DevicePolicy.reduce(rules))
    if program is None:
        return True
    bits = sum(BITS[letter] for letter in access)
    return run(program, struct.pack("=III", bits << 16 | TYPES[kind], major, minor)) == 1


@pytest.mark.parametrize(
    ("rules", "access", "expected"),
    [
        ([], "c 1 3 r", False),
        ([DENY_ALL, NULL], "c 1 3 rw", True),
        ([DENY_ALL, NULL], "c 1 5 r", False),
        ([DENY_ALL, NULL], "c 2 3 r", False),
        ([DENY_ALL, NULL], "b 1 3 r", False),
        ([DeviceRule(True, "c", 1, 3, "r")], "c 1 3 r", True),
        ([DeviceRule(True, "c", 1, 3, "r")], "c 1 3 rw", False),
        # Two rules for one device add up, as the two writes to devices.allow do.
        ([DeviceRule(True, "c", 1, 3, "r"), DeviceRule(True, "c", 1, 3, "w")], "c 1 3 rw", True),
        ([DeviceRule(True, "c", None, None, "m")], "c 250 7 m", True),
        ([DeviceRule(True, "c", None, None, "m")], "c 250 7 r", False),
        ([DeviceRule(True, "a", None, None, "m")], "b 250 7 m", True),
        ([DeviceRule(True, "c", 136, None, "rwm")], "c 136 9 rw", True),
        ([DeviceRule(True, "c", 136, None, "rwm")], "c 137 9 rw", False),
        ([DeviceRule(True, "c", 2**32 - 1, 2**32 - 1)], f"c {2**32 - 1} {2**32 - 1} r", True),
        ([DeviceRule(True)], "b 8 0 rwm", True),
        ([DeviceRule(True), DeviceRule(False, "b", 8, 0, "w")], "b 8 0 w", False),
        ([DeviceRule(True), DeviceRule(False, "b", 8, 0, "w")], "b 8 0 rw", False),
        ([DeviceRule(True), DeviceRule(False, "b", 8, 0, "w")], "b 8 0 r", True),
        ([DeviceRule(True), DeviceRule(False, "b", 8, 0, "w")], "b 8 1 w", True),
        ([DeviceRule(True), DENY_ALL, NULL], "c 1 5 r", False),
    ],
)
def test_the_program_answers(rules: list[DeviceRule], access: str, expected: bool) -> None:
    kind, major, minor, letters = access.split()
    assert allowed(rules, kind, int(major), int(minor), letters) is expected


def test_nothing_to_enforce_needs_no_program() -> None:
    assert device_program(DevicePolicy.reduce([DENY_ALL, DeviceRule(True)])) is None


def test_v1_writes_the_default_first() -> None:
    rules = [DENY_ALL, NULL, DeviceRule(True, "b", 8, None, "mr")]
    assert DevicePolicy.reduce(rules).v1_writes() == [
        ("deny", "a"), ("allow", "c 1:3 rwm"), ("allow", "b 8:* rm"),
    ]  # fmt: skip
    open_rules = [DeviceRule(True), DeviceRule(False, "b", 8, 0, "w")]
    assert DevicePolicy.reduce(open_rules).v1_writes() == [("allow", "a"), ("deny", "b 8:0 w")]


def test_a_rule_takes_back_earlier_ones() -> None:
    taken = DevicePolicy.reduce([NULL, DeviceRule(False, "c", 1, None, "w")])
    assert taken.v1_writes()[1:] == [("allow", "c 1:3 rm")]
    assert DevicePolicy.reduce([NULL, DeviceRule(False, "c", 1, 3)]).exceptions == {}


def test_a_hole_in_a_wider_rule_is_refused() -> None:
    with pytest.raises(CgroupError, match="wider"):
        DevicePolicy.reduce([DeviceRule(True, "c"), DeviceRule(False, "c", 1, 3, "w")])


def test_instructions_encode_as_the_kernel_reads_them() -> None:
    # struct bpf_insn of a little-endian machine: r2 = *(u32 *)(r1 + 4); if w2 != 0xffffffff: +3
    assert bpf.load_context(2, 4).encode().hex() == "6112040000000000"
    assert bpf.jump_unless_equal(2, 2**32 - 1, 3).encode().hex() == "56020300ffffffff"
