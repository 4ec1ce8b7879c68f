"""The compiler of system call filters: libseccomp, as Debian's package ``libseccomp2`` brings it.

It is loaded on first use, and only daemons do: what is compiled is a plain BPF program that a child
hands to the kernel by :mod:`kubeletpy_common.linux.seccomp`, without this library.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kubeletpy_common.linux.libc import failure

_LIBRARY: Final = "libseccomp.so.2"
_UNKNOWN: Final = -1
# seccomp_attr_set(3): SCMP_FLTATR_CTL_OPTIMIZE, and "binary tree sorted by system call". The kernel
# runs a new filter for each call's number once; over a list that takes twice as long.
_OPTIMIZE: Final = 8
_BINARY_TREE: Final = 2
_EEXIST: Final = 17

# seccomp_rule_add(3), enum scmp_compare, by its name in the OCI runtime specification.
COMPARISONS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}


@dataclass(frozen=True)
class Comparison:
    """A condition on one argument of a system call.

    Attributes:
        index: 0 to 5.
        operator: a value of :data:`COMPARISONS`.
        value: what it is compared with; the mask of ``SCMP_CMP_MASKED_EQ``.
        second: what the masked argument is compared with.
    """

    index: int
    operator: int
    value: int
    second: int = 0


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise OSError(
            2, f"load {_LIBRARY}: {error}; seccomp profiles need it: install libseccomp2"
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_release.restype = None
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_native.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    ]  # fmt: skip
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _check(result: int, call: str, *operands: object) -> None:
    # Unlike the C library's, these functions return the negative error number.
    if result < 0:
        raise failure(-result, call, *operands)


def native_architecture() -> int:
    """Return the ``AUDIT_ARCH_*`` token of this machine.

    Raises:
        OSError: libseccomp is not installed.
    """
    return int(_library().seccomp_arch_native())


def architecture(name: str) -> int:
    """Return the token of an architecture, such as ``x86_64``; 0 if it is unknown.

    Raises:
        OSError: libseccomp is not installed.
    """
    return int(_library().seccomp_arch_resolve_name(name.encode()))


def number_on(token: int, name: str) -> int:
    """Return the number of a system call on an architecture; negative if it has none there.

    Raises:
        OSError: libseccomp is not installed.
    """
    return int(_library().seccomp_syscall_resolve_name_arch(token, name.encode()))


class Filter:
    """A filter being built.

    Args:
        default_action: ``SECCOMP_RET_*`` for a system call that no rule names.
        architectures: tokens; that of this machine is always among them.

    Raises:
        OSError: libseccomp is not installed, or refused.
    """

    def __init__(self, default_action: int, architectures: Sequence[int]) -> None:
        self._library = _library()
        self._context = self._library.seccomp_init(default_action)
        if not self._context:
            raise failure(22, "seccomp_init", f"action {default_action:#x}")
        for token in architectures:
            result = self._library.seccomp_arch_add(self._context, token)
            if result != -_EEXIST:
                _check(result, "seccomp_arch_add", f"{token:#x}")
        _check(
            self._library.seccomp_attr_set(self._context, _OPTIMIZE, _BINARY_TREE),
            "seccomp_attr_set",
            "optimize",
        )

    def close(self) -> None:
        """Free it."""
        self._library.seccomp_release(self._context)
        self._context = None

    def add_rule(self, action: int, name: str, conditions: Sequence[Comparison]) -> bool:
        """Add a rule for one system call; all conditions must hold.

        Returns:
            False if this libseccomp does not know the system call.

        Raises:
            OSError: it contradicts another rule.
        """
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            return False
        array = (_Comparison * len(conditions))(
            *(_Comparison(c.index, c.operator, c.value, c.second) for c in conditions)
        )
        result = self._library.seccomp_rule_add_array(
            self._context, action, number, len(conditions), array
        )
        _check(result, "seccomp_rule_add_array", f"action {action:#x}", name)
        return True

    def export(self) -> bytes:
        """Return it as a BPF program: ``struct sock_filter`` after ``struct sock_filter``.

        Raises:
            OSError: memory is short.
        """
        descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            _check(self._library.seccomp_export_bpf(self._context, descriptor), "seccomp_export")
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)
