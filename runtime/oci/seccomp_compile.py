"""From an OCI seccomp profile to the BPF program that the kernel takes.

libseccomp compiles. In front of its program comes a short one of our own, for what an older
libseccomp cannot: system calls newer than itself, by their numbers, and "no such call" (ENOSYS)
instead of the profile's error for calls newer than the profile. C libraries fall back to older
calls on ENOSYS, but give up on EPERM (runc has such a stub since 1.0.0-rc93).
"""

from __future__ import annotations

import errno
import functools
import json
import struct
from typing import Any, Final

from kubeletpy_common.linux.libseccomp import (
    COMPARISONS,
    Comparison,
    Filter,
    architecture,
    native_architecture,
    number_on,
)
from kubeletpy_common.linux.seccomp import INSTRUCTION_SIZE, MAX_INSTRUCTIONS
from runtime.oci.request import TranslationError

# seccomp(2), SECCOMP_RET_*
_RETURNS: Final = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_NUMBER: Final = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")

# Numbers from 403 on are the same everywhere (Documentation/process/adding-syscalls.rst).
_NEWER: Final = {
    name: number
    for number, name in enumerate(
        "futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake "
        "futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr "
        "lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat open_tree_attr "
        "file_getattr file_setattr".split(),
        449,
    )
}
_NEWER_X86_64: Final = {"uretprobe": 335, "uprobe": 336}
_AUDIT_ARCH_X86_64: Final = 0xC000003E
# seccomp(2), "Notes": x32 has the architecture of x86_64 and this bit in the number.
_X32_BIT: Final = 0x40000000
_AUDIT_ARCH_X32: Final = 0x4000003E

# bpf(4): classic instructions on struct seccomp_data.
_LOAD: Final = 0x20
_JUMP: Final = 0x05
_IF_EQUAL: Final = 0x15
_IF_GREATER: Final = 0x25
_IF_BITS: Final = 0x45
_RETURN: Final = 0x06
_NUMBER_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4

_Instruction = tuple[int, int, int, int]


def compile_profile(profile: dict[str, Any]) -> bytes:
    """Return the program of a profile; equal profiles are compiled once.

    Raises:
        TranslationError: a rule contradicts another one, an architecture is unknown, or the program
            is longer than the kernel takes.
        OSError: libseccomp is not installed.
    """
    return _compile(json.dumps(profile, sort_keys=True))


@functools.lru_cache(maxsize=64)
def _compile(text: str) -> bytes:
    profile = json.loads(text)
    architectures = [_architecture(name) for name in profile.get("architectures", [])]
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    builder = Filter(default, architectures)
    newer: dict[str, int] = {}
    try:
        for rule in profile.get("syscalls", []):
            _add(builder, rule, default, newer)
        program = builder.export()
    finally:
        builder.close()
    tokens = dict.fromkeys([native_architecture(), *architectures])
    program = _prefix(profile, list(tokens), default, newer) + program
    count = len(program) // INSTRUCTION_SIZE
    if count > MAX_INSTRUCTIONS:
        raise TranslationError(
            f"the seccomp profile needs {count} instructions, the kernel takes {MAX_INSTRUCTIONS}: "
            "name fewer system calls or conditions"
        )
    return program


def _architecture(name: str) -> int:
    token = architecture(name.removeprefix("SCMP_ARCH_").lower())
    if not token:
        raise TranslationError(f"seccomp profile: architecture {name!r} is unknown")
    return token


def _action(name: str, number: int | None) -> int:
    if name not in _WITH_NUMBER:
        return _RETURNS[name]
    return _RETURNS[name] | (errno.EPERM if number is None else number)


def _add(builder: Filter, rule: dict[str, Any], default: int, newer: dict[str, int]) -> None:
    action = _action(rule["action"], rule.get("errnoRet"))
    if action == default:
        # libseccomp refuses what changes nothing.
        return
    conditions = [
        Comparison(a["index"], COMPARISONS[a["op"]], a["value"], a.get("valueTwo", 0))
        for a in rule.get("args", [])
    ]
    # Conditions on different arguments must all hold; several on the same one are alternatives, as
    # runc reads the specification.
    alternatives = [conditions]
    if len({c.index for c in conditions}) < len(conditions):
        alternatives = [[condition] for condition in conditions]
    for name in rule["names"]:
        for each in alternatives:
            try:
                known = builder.add_rule(action, name, each)
            except OSError as error:
                raise TranslationError(f"seccomp profile, rule for {name}: {error}") from error
            if not known and not each:
                newer.setdefault(name, action)


def _prefix(
    profile: dict[str, Any], tokens: list[int], default: int, newer: dict[str, int]
) -> bytes:
    names = {name for rule in profile.get("syscalls", []) for name in rule["names"]}
    stub = profile["defaultAction"] != "SCMP_ACT_ALLOW" and profile["defaultAction"] != (
        "SCMP_ACT_LOG"
    )
    blocks = [
        (token, _block(token, names, newer, stub=stub))
        for token in tokens
        if token != _AUDIT_ARCH_X32
    ]
    blocks = [(token, block) for token, block in blocks if block]
    program: list[_Instruction] = [(_LOAD, 0, 0, _ARCH_OFFSET)]
    following = sum(len(block) + 2 for _, block in blocks)
    for token, block in blocks:
        following -= len(block) + 2
        program.append((_IF_EQUAL, 0, len(block) + 1, token))
        program += block
        program.append((_JUMP, 0, 0, following))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _block(token: int, names: set[str], newer: dict[str, int], *, stub: bool) -> list[_Instruction]:
    """Return the part for one architecture, which falls through to what follows it."""
    own = {name: number_on(token, name) for name in names}
    table = _NEWER | (_NEWER_X86_64 if token == _AUDIT_ARCH_X86_64 else {})
    own |= {name: table[name] for name in names & set(table) if own[name] < 0}
    highest = max(own.values(), default=-1)
    tests: list[_Instruction] = []
    for name in sorted(set(newer) & set(table)):
        tests += [(_IF_EQUAL, 0, 1, table[name]), (_RETURN, 0, 0, newer[name])]
    if stub and highest >= 0:
        nosys = _RETURNS["SCMP_ACT_ERRNO"] | errno.ENOSYS
        tests += [(_IF_GREATER, 0, 1, highest), (_RETURN, 0, 0, nosys)]
    if not tests:
        return []
    block: list[_Instruction] = [(_LOAD, 0, 0, _NUMBER_OFFSET)]
    if token == _AUDIT_ARCH_X86_64:
        block.append((_IF_BITS, len(tests), 0, _X32_BIT))
    return block + tests
