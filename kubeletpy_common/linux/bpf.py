"""BPF programs that decide about device access, and the one system call that loads them.

Cgroup v2 has no device files; a program of type ``BPF_PROG_TYPE_CGROUP_DEVICE`` attached to the
cgroup is asked at every open and mknod (kernel: Documentation/admin-guide/cgroup-v2.rst, "Device
controller"). Constants are those of include/uapi/linux/bpf.h, which never change.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from kubeletpy_common.linux.libc import syscall

# enum bpf_cmd
_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_PROG_DETACH: Final = 9
_PROG_GET_FD_BY_ID: Final = 13
_PROG_QUERY: Final = 16

_PROG_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_CGROUP_DEVICE: Final = 6
_F_ALLOW_MULTI: Final = 2
# The kernel's BPF_CGROUP_MAX_PROGS: no cgroup can have more.
_MAX_PROGRAMS: Final = 64
_LOG_SIZE: Final = 65536

# struct bpf_cgroup_dev_ctx: u32 access_type (access in the high half, type in the low), major,
# minor.
CONTEXT_ACCESS_TYPE: Final = 0
CONTEXT_MAJOR: Final = 4
CONTEXT_MINOR: Final = 8
DEVICE_BLOCK: Final = 1
DEVICE_CHARACTER: Final = 2
ACCESS_MKNOD: Final = 1
ACCESS_READ: Final = 2
ACCESS_WRITE: Final = 4

# Opcodes: class | operation | source, of linux/bpf_common.h and linux/bpf.h.
_LOAD_WORD: Final = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE_VALUE: Final = 0xB4  # BPF_ALU | BPF_MOV | BPF_K (32 bits)
_MOVE_REGISTER: Final = 0xBC  # BPF_ALU | BPF_MOV | BPF_X
_AND_VALUE: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_SHIFT_RIGHT: Final = 0x74  # BPF_ALU | BPF_RSH | BPF_K
_JUMP_EQUAL: Final = 0x16  # BPF_JMP32 | BPF_JEQ | BPF_K
_JUMP_NOT_EQUAL: Final = 0x56  # BPF_JMP32 | BPF_JNE | BPF_K
_EXIT: Final = 0x95  # BPF_JMP | BPF_EXIT


class Instruction(NamedTuple):
    """One eBPF instruction: ``struct bpf_insn``.

    ``offset`` is a memory offset of a load, or how many instructions a jump skips.
    """

    opcode: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0

    def encode(self) -> bytes:
        """Return the eight bytes that the kernel reads, in the machine's byte order."""
        # The two registers are bit fields of four bits; which comes first follows the byte order.
        little = struct.pack("=H", 1)[0] == 1
        low, high = (self.destination, self.source) if little else (self.source, self.destination)
        # Device numbers are unsigned, the field is signed: keep the bits.
        immediate = self.immediate & 0xFFFFFFFF
        return struct.pack("=BBhI", self.opcode, high << 4 | low, self.offset, immediate)


def load_context(register: int, offset: int) -> Instruction:
    """``register = *(u32 *)(context + offset)``; the context is in register 1."""
    return Instruction(_LOAD_WORD, register, 1, offset)


def move(register: int, value: int) -> Instruction:
    """``register = value``."""
    return Instruction(_MOVE_VALUE, register, immediate=value)


def copy(register: int, source: int) -> Instruction:
    """``register = source``."""
    return Instruction(_MOVE_REGISTER, register, source)


def mask(register: int, value: int) -> Instruction:
    """``register &= value``."""
    return Instruction(_AND_VALUE, register, immediate=value)


def shift_right(register: int, bits: int) -> Instruction:
    """``register >>= bits``, without sign."""
    return Instruction(_SHIFT_RIGHT, register, immediate=bits)


def jump_if_equal(register: int, value: int, skip: int) -> Instruction:
    """Skip ``skip`` instructions if ``register == value``."""
    return Instruction(_JUMP_EQUAL, register, offset=skip, immediate=value)


def jump_unless_equal(register: int, value: int, skip: int) -> Instruction:
    """Skip ``skip`` instructions if ``register != value``."""
    return Instruction(_JUMP_NOT_EQUAL, register, offset=skip, immediate=value)


def leave() -> Instruction:
    """Return from the program with the value of register 0."""
    return Instruction(_EXIT)


class _LoadAttributes(ctypes.Structure):
    _fields_ = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
    ]


class _AttachAttributes(ctypes.Structure):
    _fields_ = [
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    ]


class _QueryAttributes(ctypes.Structure):
    _fields_ = [
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("prog_cnt", ctypes.c_uint32),
    ]


class _GetAttributes(ctypes.Structure):
    _fields_ = [
        ("prog_id", ctypes.c_uint32),
        ("next_id", ctypes.c_uint32),
        ("open_flags", ctypes.c_uint32),
    ]


def load_device_program(instructions: Sequence[Instruction], name: str = "kubeletpy_dev") -> int:
    """Load a device program; return its descriptor (close-on-exec).

    Args:
        instructions: the program; register 0 says at its end 1 for "allow" or 0 for "deny".
        name: shown by tools, at most 15 letters, digits and ``_``.

    Raises:
        OSError: no CAP_BPF and CAP_NET_ADMIN (EPERM), no CONFIG_CGROUP_BPF (EINVAL), or the
            verifier refused the program; the text then ends with the verifier's last line.
    """
    code = b"".join(instruction.encode() for instruction in instructions)
    program = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = _LoadAttributes(
        prog_type=_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt=len(instructions),
        insns=ctypes.addressof(program),
        license=ctypes.addressof(license_name),
        prog_name=name.encode()[:15],
    )
    shown = f"a device program of {len(instructions)} instructions"
    try:
        return _bpf(_PROG_LOAD, "BPF_PROG_LOAD", attributes, shown)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        # Only a refusal is worth the log: a second load, since a log slows the first one.
        log = ctypes.create_string_buffer(_LOG_SIZE)
        attributes.log_level, attributes.log_size = 1, _LOG_SIZE
        attributes.log_buf = ctypes.addressof(log)
        try:
            return _bpf(_PROG_LOAD, "BPF_PROG_LOAD", attributes, shown)
        except OSError as second:
            lines = log.value.decode(errors="replace").strip().splitlines()
            said = " | ".join(lines[-3:]) or "nothing"
            raise OSError(second.errno, f"{second.strerror} (the verifier said: {said})") from error


def attach_device_program(cgroup: int, program: int) -> None:
    """Attach a loaded program to the cgroup of descriptor ``cgroup``.

    Several may be attached, here and to parents; an access must be allowed by each of them.

    Raises:
        OSError: the kernel refuses, for instance EPERM when a parent forbids further programs.
    """
    attributes = _AttachAttributes(cgroup, program, _ATTACH_CGROUP_DEVICE, _F_ALLOW_MULTI)
    _bpf(_PROG_ATTACH, "BPF_PROG_ATTACH", attributes, f"program {program} to cgroup {cgroup}")


def detach_device_program(cgroup: int, program: int) -> None:
    """Detach a program of descriptor ``program`` from a cgroup.

    Raises:
        OSError: ENOENT when it is not attached there.
    """
    attributes = _AttachAttributes(cgroup, program, _ATTACH_CGROUP_DEVICE, 0)
    _bpf(_PROG_DETACH, "BPF_PROG_DETACH", attributes, f"program {program} from cgroup {cgroup}")


def device_programs(cgroup: int) -> list[int]:
    """Return the ids of the device programs attached to this very cgroup, not to its parents.

    Raises:
        OSError: the kernel refuses.
    """
    ids = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    attributes = _QueryAttributes(
        target_fd=cgroup,
        attach_type=_ATTACH_CGROUP_DEVICE,
        prog_ids=ctypes.addressof(ids),
        prog_cnt=_MAX_PROGRAMS,
    )
    _bpf(_PROG_QUERY, "BPF_PROG_QUERY", attributes, f"cgroup {cgroup}")
    return list(ids[: attributes.prog_cnt])


def open_program(identifier: int) -> int:
    """Return a descriptor of the loaded program with this id.

    Raises:
        OSError: ENOENT when it is gone.
    """
    attributes = _GetAttributes(prog_id=identifier)
    return _bpf(_PROG_GET_FD_BY_ID, "BPF_PROG_GET_FD_BY_ID", attributes, str(identifier))


def replace_device_programs(cgroup: int, instructions: Sequence[Instruction] | None) -> None:
    """Make ``instructions`` the only device program of a cgroup; None: leave it without any.

    The new one is attached before the old ones go, so at no moment is more allowed than by one of
    them.

    Raises:
        OSError: a program cannot be loaded, attached or detached.
    """
    old = device_programs(cgroup)
    if instructions is not None:
        program = load_device_program(instructions)
        try:
            attach_device_program(cgroup, program)
        finally:
            os.close(program)
    for identifier in old:
        try:
            program = open_program(identifier)
        except FileNotFoundError:
            continue
        try:
            detach_device_program(cgroup, program)
        except FileNotFoundError:
            continue
        finally:
            os.close(program)


def _bpf(command: int, name: str, attributes: ctypes.Structure, shown: str) -> int:
    return syscall(
        "bpf",
        command,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
        operands=(name, shown),
    )
