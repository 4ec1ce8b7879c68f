from __future__ import annotations

import array
import os
import platform
import socket
import struct
from collections.abc import Iterator

import pytest

from runtime.oci.call_list import AREA, MESSAGE, RESULT, CallList
from runtime.shim.launcher_program import image, open_program

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the program is for x86-64 only"
)


@pytest.fixture
def launcher() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    program, end = (os.dup2(fd, fd + 100) for fd in (open_program(), theirs.fileno()))
    os.close(program - 100)
    theirs.close()
    actions = [
        (os.POSIX_SPAWN_DUP2, end, 3),
        (os.POSIX_SPAWN_OPEN, 4, "/dev/null", os.O_RDONLY, 0),
    ]
    pid = os.posix_spawn(f"/proc/self/fd/{program}", ["launcher"], {}, file_actions=actions)
    os.close(program)
    os.close(end)
    yield ours
    ours.close()
    assert os.waitpid(pid, 0)[1] == 0, "it ends by itself when nobody is there any more"


def test_it_carries_out_what_it_is_sent_and_again(launcher: socket.socket) -> None:
    calls = CallList()
    calls.mark("failed")
    text = calls.data(b"hello")
    calls.call("write", 5, text, 5)
    calls.call("close_range", 5, 0xFFFFFFFF, 0)
    calls.end()
    message = calls.assemble()
    reading, writing = os.pipe()
    for size in (len(message), 8, 8):
        socket.send_fds(launcher, [message[:size]], [writing])
        assert os.read(reading, 9) == b"hello"
    os.close(reading)
    os.close(writing)


def test_an_error_goes_its_own_way_unless_it_is_expected(launcher: socket.socket) -> None:
    calls = CallList()
    calls.step("expected")
    calls.call("close", 999, expected=(1, 9), failed="told")
    calls.step("not expected")
    calls.call("close", 999, expected=(1, 2), failed="told")
    calls.call("exit_group", 1, failed="told")
    calls.mark("told")
    calls.call("write", 3, RESULT, 8, failed="told")
    calls.end()
    launcher.send(calls.assemble())
    error, address = struct.unpack("<II", launcher.recv(8))
    assert (error, calls.steps[address][0]) == (9, "not expected")


def test_a_result_above_zero_can_lead_elsewhere_and_is_kept(launcher: socket.socket) -> None:
    calls = CallList()
    calls.call("dup3", 0, 77, 0, above_zero="on", failed="on")
    calls.call("exit_group", 1, failed="on")
    calls.mark("on")
    calls.call("write", 3, RESULT, 8, failed="on")
    calls.call("close", 77, failed="on")
    calls.end()
    launcher.send(calls.assemble())
    assert struct.unpack("<Q", launcher.recv(8)) == (77,)


def test_descriptors_have_the_next_numbers_each_time(launcher: socket.socket) -> None:
    calls = CallList()
    calls.call("dup3", 7, 3, 0, above_zero="on", failed="on")
    calls.mark("on")
    calls.call("write", 3, RESULT, 8, failed="on")
    calls.end()
    ours, theirs = socket.socketpair()
    null = os.open("/dev/null", os.O_RDONLY)
    fds = array.array("i", [null, null, theirs.fileno()])
    launcher.sendmsg([calls.assemble()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    assert ours.recv(8) == struct.pack("<Q", 3)
    for one in (ours, theirs):
        one.close()
    os.close(null)


def test_the_code_knows_where_the_area_is() -> None:
    content = image()
    for address in (AREA, AREA + 56, AREA + 128, MESSAGE):
        assert struct.pack("<I", address) in content
    # mov r12, [rbx + offset of the message]; mov [rbx + offset of the result], rax
    assert b"\x4c\x8b\xa3" + struct.pack("<I", MESSAGE - AREA) in content
    assert b"\x48\x89\x83" + struct.pack("<I", RESULT - AREA) in content
