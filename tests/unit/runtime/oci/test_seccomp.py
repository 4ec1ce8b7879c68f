"""Seccomp profiles: chosen, read, and compiled to a program that decides as the profile says.

The programs are run by a small interpreter of classic BPF, over every system call number of every
architecture of the profile, and compared with a plain reading of the rules.
"""

from __future__ import annotations

import errno
import functools
import json
import struct
from typing import Any

import pytest

from kubeletpy_common.linux.libseccomp import architecture, number_on
from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.confinement import (
    FILTER_FILE,
    CompiledFilter,
    read_compiled_filter,
    shared_confinement,
)
from runtime.oci.defaults import DEFAULT_CAPABILITIES
from runtime.oci.request import TranslationError
from runtime.oci.seccomp import PROFILE_LIMIT, default_profile, parse_profile, requested_profile
from runtime.oci.seccomp_compile import compile_profile

Kind = cri.SecurityProfile
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
X86_64 = 0xC000003E


def run(program: bytes, number: int, token: int, arguments: tuple[int, ...] = ()) -> int:
    """Interpret classic BPF as seccomp(2) does; returns the decision."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, token, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    position = accumulator = 0
    while True:
        operation, true, false, k = code[position]
        position += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            position += k
        elif operation == 0x06:
            return int(k)
        else:
            test = {0x15: accumulator == k, 0x25: accumulator > k,
                    0x35: accumulator >= k, 0x45: bool(accumulator & k)}[operation]  # fmt: skip
            position += true if test else false


@functools.cache
def default_program() -> bytes:
    return compile_profile(default_profile(DEFAULT_CAPABILITIES, "x86_64"))


@pytest.mark.parametrize("name", ["x86_64", "x86"])
def test_the_default_profile_decides_as_its_rules_say_for_every_number(name: str) -> None:
    token = architecture(name)
    profile = default_profile(DEFAULT_CAPABILITIES, "x86_64")
    plain = {n for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"
             and "args" not in rule for n in rule["names"]}  # fmt: skip
    allowed = {number_on(token, n) for n in plain} - {-1}
    # What has conditions or another error is looked at on its own below.
    special = {number_on(token, n) for n in ("socket", "personality", "clone", "clone3")}
    if name == "x86":
        # Sockets and System V IPC have two numbers there, one of them a multiplexer's argument,
        # and libseccomp tells neither.
        special |= {number_on(token, n) for n in ("socketcall", "ipc")}
        special |= {337, 345, *range(359, 374), *range(393, 403)}
    newer = {452, 451, 453, *range(454, 463)} | ({335} if name == "x86_64" else set())
    for number in range(463):
        if number not in special:
            expected = ALLOW if number in allowed | newer else EPERM
            assert run(default_program(), number, token) == expected, number
    for number in (470, 600, 0x3FFFFFFF):
        assert run(default_program(), number, token) == ENOSYS


def test_the_default_profile_on_arguments_and_foreign_architectures() -> None:
    decide = functools.partial(run, default_program())
    socket, personality, clone = (number_on(X86_64, n) for n in ("socket", "personality", "clone"))
    families = [f for f in range(64) if decide(socket, X86_64, (f, 1, 0)) != ALLOW]
    assert families == [38, 40]
    assert decide(socket, X86_64, ((1 << 32) + 38, 1, 0)) == ALLOW
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert decide(personality, X86_64, (value,)) == ALLOW
    assert decide(personality, X86_64, (0x40000,)) == EPERM
    assert decide(clone, X86_64, (0x11,)) == ALLOW
    for bit in (17, 25, 26, 27, 28, 29, 30):
        assert decide(clone, X86_64, (0x11 | 1 << bit,)) == EPERM
    assert decide(number_on(X86_64, "clone3"), X86_64) == ENOSYS
    # The numbers of x32 have bit 30, and mount is among them.
    assert decide(0x40000000 | number_on(X86_64, "mount"), X86_64) == EPERM
    assert decide(0x40000000 | number_on(X86_64, "read"), X86_64) == ALLOW
    # An architecture that the profile does not name: the process is killed.
    assert decide(1, architecture("s390x")) in (0, 0x80000000)


def test_capabilities_open_their_calls() -> None:
    def allows(capabilities: tuple[str, ...], name: str) -> bool:
        program = compile_profile(default_profile(capabilities, "x86_64"))
        return run(program, number_on(X86_64, name), X86_64) == ALLOW

    for capability, name in (
        ("CAP_SYS_ADMIN", "mount"), ("CAP_SYS_ADMIN", "clone3"), ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_CHROOT", "chroot"), ("CAP_SYS_TIME", "clock_settime"), ("CAP_BPF", "bpf"),
        ("CAP_SYS_MODULE", "init_module"), ("CAP_SYSLOG", "syslog"), ("CAP_SYS_NICE", "mbind"),
    ):  # fmt: skip
        assert (allows((), name), allows((capability,), name)) == (False, True), name


def test_the_profile_of_64_bit_arm_compiles() -> None:
    program = compile_profile(default_profile(DEFAULT_CAPABILITIES, "aarch64"))
    arm = architecture("aarch64")
    assert run(program, number_on(arm, "mount"), arm) == EPERM
    assert run(program, number_on(arm, "openat"), arm) == ALLOW
    assert run(program, 452, arm) == ALLOW


def localhost(**fields: Any) -> dict[str, Any]:
    return parse_profile(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **fields}).encode(), "p")


def test_actions_alternatives_and_joint_conditions() -> None:
    def rule(name: str, action: str, *args: tuple[int, int, str], **more: int) -> dict[str, Any]:
        arguments = [{"index": i, "value": v, "op": op} for i, v, op in args]
        return {"names": [name], "action": action, "args": arguments, **more}

    program = compile_profile(localhost(syscalls=[
        rule("chmod", "SCMP_ACT_ERRNO"),
        rule("chown", "SCMP_ACT_ERRNO", errnoRet=13),
        rule("mkdir", "SCMP_ACT_KILL_PROCESS"),
        rule("rmdir", "SCMP_ACT_LOG"),
        rule("kill", "SCMP_ACT_ERRNO", (1, 9, "SCMP_CMP_EQ"), (1, 15, "SCMP_CMP_EQ")),
        rule("dup2", "SCMP_ACT_ERRNO", (0, 1, "SCMP_CMP_EQ"), (1, 2, "SCMP_CMP_EQ")),
        rule("mseal", "SCMP_ACT_ERRNO", errnoRet=5),
        rule("no_such_call", "SCMP_ACT_ERRNO"),
        rule("read", "SCMP_ACT_ALLOW"),
    ]))  # fmt: skip

    def decide(name: str, *arguments: int) -> int:
        return run(program, number_on(X86_64, name), X86_64, arguments)

    assert decide("chmod") == EPERM
    assert decide("chown") == 0x50000 | 13
    assert decide("mkdir") == 0x80000000
    assert decide("rmdir") == 0x7FFC0000
    assert [decide("kill", 1, n) == EPERM for n in (9, 15, 10)] == [True, True, False]
    assert [decide("dup2", *a) == EPERM for a in ((1, 2), (1, 3), (2, 2))] == [True, False, False]
    assert run(program, 462, X86_64) == 0x50000 | 5
    assert decide("read") == ALLOW
    # The default is to allow: what is newer than the profile is allowed too.
    assert run(program, 600, X86_64) == ALLOW


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"{}", "defaultAction"),
        (b"[]", "defaultAction"),
        (b"[" * 100_000, "no JSON"),
        (b" " * (PROFILE_LIMIT + 1), "larger"),
        (b'{"defaultAction": "allow"}', "none of"),
        (b'{"defaultAction": "SCMP_ACT_NOTIFY"}', "SCMP_ACT_NOTIFY"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {"a": 1}}', "no list"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}', "'names' is missing"),
        (
            b'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "x"}]}',
            "no n",
        ),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}', "flags X"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}', "listenerPath"),
        (b'{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}', "defaultErrnoRet"),
        (
            b'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": '
            b'"SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}',
            "index 6",
        ),
    ],
)
def test_files_that_are_no_profiles(content: bytes, words: str) -> None:
    with pytest.raises(TranslationError, match=words):
        parse_profile(content, "p")


def test_what_only_the_compiler_notices() -> None:
    with pytest.raises(TranslationError, match="SCMP_ARCH_VAX"):
        compile_profile(localhost(architectures=["SCMP_ARCH_VAX"]))
    # Few rules with many conditions: what libseccomp takes grows with the square of the rules.
    rules = [
        {"names": ["dup"], "action": "SCMP_ACT_ERRNO", "args": [
            {"index": index, "value": (number << 32) + number + index, "op": "SCMP_CMP_EQ"}
            for index in range(6)]}
        for number in range(1, 400)
    ]  # fmt: skip
    with pytest.raises(TranslationError, match="4096"):
        compile_profile(localhost(syscalls=rules))


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({}, (Kind.Unconfined, "")),
        ({"seccomp": Kind(profile_type=Kind.RuntimeDefault)}, (Kind.RuntimeDefault, "")),
        ({"seccomp_profile_path": "runtime/default"}, (Kind.RuntimeDefault, "")),
        ({"seccomp_profile_path": "localhost//p"}, (Kind.Localhost, "/p")),
        ({"seccomp": Kind(profile_type=Kind.Localhost, localhost_ref="/p"),
          "seccomp_profile_path": "unconfined"}, (Kind.Localhost, "/p")),
        ({"seccomp": Kind(profile_type=Kind.RuntimeDefault), "privileged": True},
         (Kind.Unconfined, "")),
    ],
)  # fmt: skip
def test_which_profile_is_asked_for(security: dict[str, Any], expected: tuple[int, str]) -> None:
    assert requested_profile(cri.LinuxContainerSecurityContext(**security)) == expected


def test_a_missing_program_never_means_unconfined(tmp_path: Any) -> None:
    linux: dict[str, Any] = {"seccomp": {"flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{}]}}
    linux = shared_confinement({"linux": linux})
    assert linux == {"seccomp": {"flags": ["SECCOMP_FILTER_FLAG_LOG"]}}
    with pytest.raises(OSError, match=r"seccomp\.bpf"):
        read_compiled_filter(linux, tmp_path)
    (tmp_path / FILTER_FILE).write_bytes(b"x" * 8)
    assert read_compiled_filter(linux, tmp_path) == CompiledFilter(b"x" * 8, 2)
    assert read_compiled_filter({}, tmp_path) is None
