"""The list of system calls by which a command gets into a container."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from runtime.oci.call_list import MESSAGE, NUMBERS, CallList, TooLongError
from runtime.oci.confinement import CompiledFilter
from runtime.oci.exec_calls import exec_calls

NAMES = {number: name for name, number in NUMBERS.items()}
END = (1 << 64) - 1
PROCESS: dict[str, Any] = {
    "args": ["true", "x y"],
    "env": ["PATH=/a:/b:", "A=1", "A=2=3", "odd"],
    "cwd": "/work",
    "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
    "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
}
LINUX = {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]}
FILTER = CompiledFilter(struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000), 2)


class Read:
    """What the launcher would find in a message."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        (self.first,) = struct.unpack_from("<Q", message)

    def call(self, address: int) -> tuple[int, ...]:
        return struct.unpack_from("<7QIIQ", self.message, address - MESSAGE)

    def calls(self) -> list[tuple[int, ...]]:
        count = (len(self.message) + MESSAGE - self.first) // 72
        return [self.call(self.first + 72 * number) for number in range(count)]

    def text(self, address: int) -> str:
        start = address - MESSAGE
        return self.message[start : self.message.index(b"\0", start)].decode()

    def texts(self, address: int) -> list[str]:
        found = []
        while pointer := struct.unpack_from("<Q", self.message, address - MESSAGE)[0]:
            found.append(self.text(pointer))
            address += 8
        return found

    def path(self, start: int, fails: dict[str, int]) -> list[str]:
        """Return the calls made from an address on; those in ``fails`` fail, others give 0."""
        made, address = [], start
        while (call := self.call(address))[0] != END:
            name = NAMES[call[0]]
            made.append(name)
            if name == "exit_group":
                break
            error = fails.get(name, 0)
            if error and error not in call[9].to_bytes(8, "little")[:3]:
                address = call[8]
            else:
                address += 72
        return made


def read(process: dict[str, Any], **more: Any) -> Read:
    values: dict[str, Any] = {"cgroup_files": (), "into_cgroup": False, "system_calls": None}
    return Read(exec_calls(LINUX, process, **values | more).assemble())


def names(found: Read) -> list[str]:
    return [NAMES.get(call[0], "end") for call in found.calls()]


def test_the_order_is_the_kernels() -> None:
    found = names(read(PROCESS, cgroup_files=("/c/tasks",), system_calls=FILTER))
    fork = found.index("clone3")
    order = ["setsid", "setns", "close_range", "setresuid", "fchdir", "seccomp", "capset", "execve"]
    places = [found.index(name, found.index("setsid")) for name in order[:-2]]
    assert places == sorted(places)
    assert found[:fork] == ["setns"]
    # The container's namespaces come after the cgroups, whose files are the host's.
    assert found.index("openat") < places[1]
    # Without no_new_privs the filter comes before the last capability is given up.
    seccomp = found.index("seccomp")
    assert found[seccomp:][:3] == ["seccomp", "capset", "execve"]
    prctl = [call[1] for call in read(PROCESS).calls() if call[0] == NUMBERS["prctl"]]
    assert prctl[-1] == 1, "the parent's death: after the change of user, which clears it"


def test_with_no_new_privs_nothing_comes_after_the_filter() -> None:
    found = names(read(PROCESS | {"noNewPrivileges": True}, system_calls=FILTER))
    seccomp = found.index("seccomp")
    assert found[seccomp + 1] == "execve"


def test_the_launcher_answers_and_closes_what_it_got_also_after_an_error() -> None:
    found = read(PROCESS)
    rest = ["write", "setns", "close_range"]
    assert found.path(found.first, {"clone3": errno.EAGAIN}) == ["setns", "clone3", *rest]
    assert found.path(found.first, {"setns": errno.ESRCH})[1:] == rest
    clone = next(call for call in found.calls() if NAMES.get(call[0]) == "clone3")
    assert found.path(clone[7], {}) == rest, "where its own side of the fork goes on"


@pytest.mark.parametrize(
    "name", ["setsid", "keyctl", "setns", "setgroups", "setresuid", "capset", "openat2", "fchdir"]
)
def test_a_step_that_fails_is_told_and_ends_the_child(name: str) -> None:
    found = read(PROCESS)
    begin = next(call for call in found.calls() if NAMES[call[0]] == "dup3")[7]
    made = found.path(begin, {name: errno.EDQUOT, "execve": errno.ENOENT})
    assert made[made.index(name) :] == [name, "write", "exit_group"]


@pytest.mark.parametrize(
    ("error", "tries"), [(errno.ENOENT, 7), (errno.EACCES, 4), (errno.E2BIG, 1)]
)
def test_the_search_in_path(error: int, tries: int) -> None:
    found = read(PROCESS)
    calls = [call for call in found.calls() if NAMES.get(call[0]) == "execve"]
    assert [found.text(call[1]) for call in calls] == [*["/a/true", "/b/true", "./true"] * 2, ""]
    assert found.texts(calls[0][2]) == ["true", "x y"]
    assert found.texts(calls[0][3]) == ["PATH=/a:/b:", "A=2=3"]
    first = found.first + 72 * found.calls().index(calls[0])
    made = found.path(first, {"execve": error})
    assert made == ["execve"] * tries + ["write", "exit_group"]


def test_a_path_is_not_searched() -> None:
    found = read(PROCESS | {"args": ["/bin/true"]})
    paths = [found.text(call[1]) for call in found.calls() if NAMES.get(call[0]) == "execve"]
    assert paths == ["/bin/true", ""]


@pytest.mark.parametrize(
    "change",
    [
        {"args": ["tr\0ue"]},
        {"rlimits": [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]},
        {"capabilities": {"bounding": ["CAP_NONE"]}},
    ],
)
def test_what_the_kernel_would_misunderstand_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"null byte|RLIMIT_NONE|CAP_NONE"):
        read(PROCESS | change)


def test_what_is_too_long_for_a_message_is_refused() -> None:
    with pytest.raises(TooLongError):
        read(PROCESS | {"env": ["A=" + "x" * (64 << 10)]})


def test_a_missing_mark_is_a_mistake() -> None:
    calls = CallList()
    calls.call("setsid")
    with pytest.raises(KeyError):
        calls.assemble()
