"""A program that carries out lists of system calls: what execs of a pod are forked from.

To fork an interpreter costs milliseconds: its page tables are copied, parent and child both take
a fault at each page that either writes to, and the kernel takes it all down again. This one has a
handful of pages. It understands nothing: what is to be called, with which arguments and in which
order, are :class:`runtime.oci.call_list.CallList`'s, made by the shim.

It reads messages from the socket that is its descriptor 3; descriptors that come along get the
next free numbers. The calls of a message are made one after the other; :mod:`runtime.oci.call_list`
says how they are laid out. One of them forks: from there on there are two processes in the list.
"""

from __future__ import annotations

import struct

from kubeletpy_common.linux.programs import executable, sealed
from runtime.oci import call_list

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# rbx holds the address of the area, r12 that of the call.
_CODE: Final = (
    # prctl(PR_SET_DUMPABLE, 0): nobody may trace or dump this
    b"\xbf\x04\x00\x00\x00"  # mov edi, 4
    b"\x31\xf6"  # xor esi, esi
    b"\xb8\x9d\x00\x00\x00"  # mov eax, 157
    b"\x0f\x05"  # syscall
    # close_range(5, ~0, 0): what somebody forgot to
    b"\xbf\x05\x00\x00\x00"  # mov edi, 5
    b"\x83\xce\xff"  # or esi, -1
    b"\x31\xd2"  # xor edx, edx
    b"\xb8\xb4\x01\x00\x00"  # mov eax, 436
    b"\x0f\x05"  # syscall
    # prctl(PR_SET_NAME, name)
    b"\xbf\x0f\x00\x00\x00"  # mov edi, 15
    b"\x48\x8d\x35\xe2\x00\x00\x00"  # lea rsi, [name]
    b"\xb8\x9d\x00\x00\x00"  # mov eax, 157
    b"\x0f\x05"  # syscall
    # mmap(AREA, SIZE, read and write, private, anonymous, fixed)
    b"\xbb\x00\x00\x00\x10"  # mov ebx, 0x10000000
    b"\x89\xdf"  # mov edi, ebx
    b"\xbe\x00\x00\x10\x00"  # mov esi, 0x100000
    b"\xba\x03\x00\x00\x00"  # mov edx, 3
    b"\x41\xba\x32\x00\x00\x00"  # mov r10d, 0x32
    b"\x49\x83\xc8\xff"  # or r8, -1
    b"\x45\x31\xc9"  # xor r9d, r9d
    b"\xb8\x09\x00\x00\x00"  # mov eax, 9
    b"\x0f\x05"  # syscall
    b"\x48\x85\xc0"  # test rax, rax
    b"\x0f\x88\xa4\x00\x00\x00"  # js quit
    # receive: the header of the message anew, since recvmsg changes it
    b"\x48\x8d\x35\xb5\x00\x00\x00"  # lea rsi, [template]
    b"\x89\xdf"  # mov edi, ebx
    b"\xb9\x48\x00\x00\x00"  # mov ecx, 72
    b"\xf3\xa4"  # rep movs es:[rdi], ds:[rsi]
    # recvmsg(3, AREA, MSG_CMSG_CLOEXEC); the end of the stream is the end
    b"\xbf\x03\x00\x00\x00"  # mov edi, 3
    b"\x89\xde"  # mov esi, ebx
    b"\xba\x00\x00\x00\x40"  # mov edx, 0x40000000
    b"\xb8\x2f\x00\x00\x00"  # mov eax, 47
    b"\x0f\x05"  # syscall
    b"\x48\x85\xc0"  # test rax, rax
    b"\x7e\x7c"  # jle quit
    # the address of the first call
    b"\x4c\x8b\xa3\x00\x02\x00\x00"  # mov r12, [rbx+0x200]
    # step: a negative number ends the list
    b"\x49\x8b\x04\x24"  # mov rax, [r12]
    b"\x48\x85\xc0"  # test rax, rax
    b"\x78\xc8"  # js receive
    # the call
    b"\x49\x8b\x7c\x24\x08"  # mov rdi, [r12+0x8]
    b"\x49\x8b\x74\x24\x10"  # mov rsi, [r12+0x10]
    b"\x49\x8b\x54\x24\x18"  # mov rdx, [r12+0x18]
    b"\x4d\x8b\x54\x24\x20"  # mov r10, [r12+0x20]
    b"\x4d\x8b\x44\x24\x28"  # mov r8, [r12+0x28]
    b"\x4d\x8b\x4c\x24\x30"  # mov r9, [r12+0x30]
    b"\x0f\x05"  # syscall
    b"\x48\x85\xc0"  # test rax, rax
    # its result: below 0, 0, above 0
    b"\x78\x16"  # js failed
    b"\x74\x3f"  # je next
    b"\x41\x8b\x4c\x24\x38"  # mov ecx, [r12+0x38]
    b"\x67\xe3\x37"  # jecxz next
    # above 0 with somewhere to go on: keep it and go there
    b"\x48\x89\x83\x00\x01\x00\x00"  # mov [rbx+0x100], rax
    b"\x41\x89\xcc"  # mov r12d, ecx
    b"\xeb\xbc"  # jmp step
    # failed: an error that is expected is none
    b"\xf7\xd8"  # neg eax
    b"\x41\x3a\x44\x24\x40"  # cmp al, [r12+0x40]
    b"\x74\x22"  # je next
    b"\x41\x3a\x44\x24\x41"  # cmp al, [r12+0x41]
    b"\x74\x1b"  # je next
    b"\x41\x3a\x44\x24\x42"  # cmp al, [r12+0x42]
    b"\x74\x14"  # je next
    # keep error and call, and go where errors go
    b"\x89\x83\x00\x01\x00\x00"  # mov [rbx+0x100], eax
    b"\x44\x89\xa3\x04\x01\x00\x00"  # mov [rbx+0x104], r12d
    b"\x45\x8b\x64\x24\x3c"  # mov r12d, [r12+0x3c]
    b"\xeb\x91"  # jmp step
    # next
    b"\x49\x83\xc4\x48"  # add r12, 72
    b"\xeb\x8b"  # jmp step
    # quit: exit_group(0)
    b"\x31\xff"  # xor edi, edi
    b"\xb8\xe7\x00\x00\x00"  # mov eax, 231
    b"\x0f\x05"  # syscall
    b"kubeletpy-exec\x00"  # name
)
# template: struct msghdr (recvmsg(2)) and the struct iovec that it points at.
_TEMPLATE: Final = struct.pack(
    "<9Q",
    0, 0, call_list.AREA + 56, 1, call_list.AREA + 128, 128, 0,
    call_list.MESSAGE, call_list.AREA_SIZE - (call_list.MESSAGE - call_list.AREA),
)  # fmt: skip


def image() -> bytes:
    """Return it as an executable."""
    return executable(_CODE + _TEMPLATE)


def open_program() -> int:
    """Return a descriptor of it; -1: there is none (:func:`programs.sealed`)."""
    return sealed("launcher", image())
