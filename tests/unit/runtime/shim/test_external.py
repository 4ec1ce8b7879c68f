from __future__ import annotations

import os
from typing import Any

import pytest

from runtime.shim.external.command_line import CommandLine, errors_of
from runtime.shim.external.configuration import external_configuration
from runtime.shim.external.root import Places
from runtime.shim.external.strays import Strays

LINE = CommandLine("runc", "/usr/sbin/runc", "/r", ["--debug"], True, "/roots")
# As runc 1.1.5 and crun 1.8.1 write them.
RUNC = (
    '{"level":"warning","msg":"signal: killed","time":"2026-11-21T11:00:00Z"}\n'
    '{"level":"error","msg":"runc create failed: exec: \\"/no\\": no such file","time":"x"}\n'
    'runc create failed: exec: "/no": no such file\n'
)
CRUN = '{"msg":"cgroups in hybrid mode not supported","level":"error","time":"x"}\n'


def test_the_command_line() -> None:
    assert LINE.words("/l", "start", "id") == [
        *("/usr/sbin/runc", "--root", "/r", "--log", "/l", "--log-format", "json", "--debug"),
        *("start", "id"),
    ]
    assert vars(CommandLine(**LINE.to_message())) == vars(LINE)


@pytest.mark.parametrize(
    ("said", "errors"),
    [
        (RUNC, 'runc create failed: exec: "/no": no such file'),
        (CRUN, "cgroups in hybrid mode not supported"),
        ("Segmentation fault\n", "Segmentation fault"),
        ('{"level":"info","msg":"x"}\n', ""),
        ("3\n[]\n", "3; []"),
        ("", ""),
    ],
)
def test_what_a_runtime_says(said: str, errors: str) -> None:
    assert errors_of(said) == errors


def test_long_messages_are_cut() -> None:
    assert len(errors_of("x" * 100_000)) == 2000


def test_failures_tell_what_was_run() -> None:
    text = LINE.failure("create", 1, CRUN)
    assert text == (
        "`/usr/sbin/runc create` failed with status 1: cgroups in hybrid mode not supported"
    )
    assert LINE.failure("start", -9, "").endswith("was killed by signal 9: it gave no reason")


def test_the_configuration() -> None:
    proc = {"destination": "/proc", "type": "proc", "source": "proc"}
    image = {
        **{"destination": "/data", "type": "image", "source": "/snapshots", "subPath": "a"},
        **{"layers": ["1", "0"], "options": ["ro", "noexec"]},
    }
    config: dict[str, Any] = {
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [proc, image],
        "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
    }
    made = external_configuration(config, "/roots/id/root", "/roots/id/images")
    assert made["ociVersion"] == "1.0.2"
    assert made["root"] == {"path": "/roots/id/root", "readonly": True}
    assert made["linux"] == config["linux"]
    assert made["mounts"] == [
        proc,
        {
            "destination": "/data",
            "type": "bind",
            "source": "/roots/id/images/1",
            "options": ["bind", "ro", "noexec"],
        },
    ]


def test_places_are_made_and_removed(tmp_path: Any) -> None:
    places = Places(str(tmp_path), "id")
    places.make()
    places.make()
    with open(f"{places.images}/3", "w"):
        pass
    places.remove()
    assert os.listdir(tmp_path) == []
    places.remove()


class Owner:
    def __init__(self) -> None:
        self.status: int | None = None

    def reaped(self, status: int) -> None:
        self.status = status


def child(code: int) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {})


def test_a_child_that_ended_before_it_was_known() -> None:
    children: dict[int, Any] = {}
    strays, owner = Strays(children), Owner()
    strays.expect()
    pid = child(3)
    strays.ended(*os.waitpid(pid, 0))
    strays.adopt(pid, owner)
    assert owner.status is not None
    assert os.waitstatus_to_exitcode(owner.status) == 3
    assert children == {}


def test_a_child_that_is_still_there() -> None:
    children: dict[int, Any] = {}
    strays, owner = Strays(children), Owner()
    strays.expect()
    pid = child(0)
    # Of an earlier process of that number.
    strays.ended(pid, 0x700)
    strays.adopt(pid, owner)
    assert (children, owner.status) == ({pid: owner}, None)
    os.waitpid(pid, 0)


def test_nothing_is_kept_for_nobody() -> None:
    strays = Strays({})
    pid = child(0)
    status = os.waitpid(pid, 0)[1]
    strays.ended(pid, status)
    strays.expect()
    with pytest.raises(ChildProcessError):
        strays.adopt(pid, Owner())
    strays.ended(pid, status)
    strays.settle()
    strays.expect()
    with pytest.raises(ChildProcessError):
        strays.adopt(pid, Owner())
