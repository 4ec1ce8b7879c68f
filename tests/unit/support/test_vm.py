"""The command line of the virtual machine, QEMU's, and the choice of tests."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from tests.support import runner
from tests.vm import systems
from tests.vm.__main__ import parse
from tests.vm.image import Image, ImageError
from tests.vm.inside import chosen, progress
from tests.vm.machine import Disk, Hardware, Machine, Nic

IMAGE = Image(Path("/i/kernel"), Path("/i/initrd"), Path("/i/disk"))


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        ([], {"arguments": "all", "seconds": "3600"}),
        (["--brief"], {"arguments": "brief", "seconds": "600"}),
        (["--brief", "--seconds", "1500"], {"arguments": "brief", "seconds": "1500"}),
        (["--long"], {"arguments": "long", "seconds": "21600", "test-seconds": "900"}),
        (["--long", "--test-seconds", "60", "tests/root/proxy"],
         {"arguments": "tests/root/proxy", "seconds": "21600", "test-seconds": "60"}),
        (["--benchmark", "--only", "burst"],
         {"arguments": "--only\nburst", "seconds": "3600", "benchmark": ""}),
        (["-x", "-k", "a or b", "tests/root"],
         {"arguments": "-x\n-k\na or b\ntests/root", "seconds": "3600"}),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_pytests(arguments: list[str], files: dict[str, str]) -> None:
    options = parse(arguments)
    assert (options.files, options.make) == (files, False)
    assert options.seconds == float(files["seconds"])


@pytest.mark.parametrize("form", ["brief", "all", "long"])
def test_what_is_chosen_exists(form: str) -> None:
    for name in chosen.chosen(form):
        if name.startswith("tests/"):
            assert (runner.CHECKOUT / name.partition("::")[0]).exists(), name


def test_arguments_are_passed_on() -> None:
    assert chosen.chosen("-x\ntests/root/proxy") == ["-x", "tests/root/proxy"]


def test_the_command_line_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBELETPY_VM_ACCELERATOR", raising=False)
    hardware = Hardware(
        IMAGE,
        (Disk(IMAGE.disk), Disk(Path("/d"), readonly=True), Disk(Path("/k"), kept=True)),
        nics=(Nic("socket,mcast=230.0.0.1:1234", "52:54:00:12:34:01"),),
        unit="a.service",
        words=("quiet",),
        serials=("stdio",),
        files={"arguments": "a,b"},
        cpus=1,
    )
    command = hardware.command(Path("/c"))
    pairs = list(itertools.pairwise(command))
    assert [value for option, value in pairs if option == "-drive"] == [
        "file=/i/disk,format=raw,if=virtio,cache=unsafe,snapshot=on",
        "file=/d,format=raw,if=virtio,cache=unsafe,readonly=on",
        "file=/k,format=raw,if=virtio,cache=unsafe",
    ]
    assert ("-smp", "1") in pairs
    assert ("-netdev", "socket,mcast=230.0.0.1:1234,id=net0") in pairs
    assert ("-fw_cfg", "name=opt/org.kubeletpy/arguments,string=a,,b") in pairs
    assert [value for option, value in pairs if option == "-serial"] == ["chardev:console", "stdio"]
    line = dict(pairs)["-append"].split()
    assert {"systemd.unit=a.service", "quiet", "console=ttyS0"} <= set(line)
    assert "-nic" not in command


def test_a_machine_without_cards_has_none() -> None:
    command = Hardware(IMAGE, ()).command(Path("/c"))
    assert command[command.index("-nic") + 1] == "none"


def test_the_brief_form_runs_beside_the_root_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "of_this_python", lambda: systems.SYSTEMS["debian-12"])
    making, running = runner._virtual_machine_aside(Path("/venv/bin/python"))
    # Packages come from a mirror; the machine itself needs no network.
    assert (making.online, running.online) == (True, False)
    options = parse(running.command[3:])
    assert options.files["arguments"] == "brief"
    assert options.seconds < running.limit
    assert parse(making.command[3:]).make


def test_a_python_without_a_debian_of_its_own_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    assert runner._virtual_machine_aside(Path("/venv/bin/python")) == []
    shown = capsys.readouterr()
    assert "are not run: no Debian has Python 3.12" in shown.out + shown.err


def test_the_system_is_chosen_by_name_or_by_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(["--system", "debian-13"]).system == "debian-13"
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert systems.chosen({}).name == "debian-13"
    assert systems.chosen({systems.VARIABLE: "ubuntu-24.04"}).python == (3, 12)
    with pytest.raises(ImageError, match=r"no system 'debian-9'.*debian-12, debian-13"):
        systems.chosen({systems.VARIABLE: "debian-9"})


def test_a_system_without_its_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    monkeypatch.setattr(systems, "find_python", lambda version: None)
    with pytest.raises(ImageError, match=r"debian-13 has Python 3\.13, and this machine none"):
        systems.packages_for(systems.SYSTEMS["debian-13"])


def test_tests_keep_to_the_order_of_what_is_asked_for() -> None:
    order = ["tests/b", "tests/a/test_x.py", "tests/a"]
    names = [
        "tests/a/test_w.py::t",
        "tests/a/test_x.py::t[1]",
        "tests/b/test_y.py::t",
        "tests/bc::t",
    ]
    assert [chosen.place(name, order) for name in names] == [2, 1, 0, 3]


def test_results_are_counted_by_folder() -> None:
    names = ["tests/b/test_y.py::t", "tests/b/test_y.py::u", "tests/a/test_x.py::t"]
    lines = progress.by_folder(names, {names[0]: "passed", names[2]: "failed"})
    assert [line.split(maxsplit=1) for line in lines] == [
        ["tests/b", "1 passed, 1 not run"],
        ["tests/a", "1 failed"],
        ["all", "1 passed, 1 failed, 1 not run"],
    ]


LONG = """
import time, pytest

def test_slow():
    time.sleep(30)

def test_quick():
    pass
"""


@pytest.mark.slow
def test_a_test_that_takes_too_long_is_ended_and_the_next_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=LONG)
    plugin = progress.Progress(["test_one.py::test_slow"], 600.0, 2.0)
    pytester.inline_run("-p", "no:cacheprovider", plugins=[plugin])
    assert plugin.results == {
        "test_one.py::test_slow": "failed", "test_one.py::test_quick": "passed",
    }  # fmt: skip


def test_no_test_begins_when_the_time_is_over(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one="def test_a(): pass\ndef test_b(): pass\n")
    plugin = progress.Progress([], 0.0, 5.0)
    result = pytester.inline_run("-p", "no:cacheprovider", plugins=[plugin])
    assert plugin.results == {"test_one.py::test_a": "passed"}
    assert result.ret != 0


def test_what_the_kernel_complains_of_is_found(tmp_path: Path) -> None:
    machine = Machine(Hardware(IMAGE, ()), tmp_path)
    assert machine.complaints() == ""
    crash = "[ 7.1] python[12]: segfault at 8 ip 00007f sp 00007f error 4 in libc.so.6"
    machine.console.write_text(f"[ 0.0] NX (Execute Disable) protection: active\r\n{crash}\r\n")
    assert machine.complaints() == crash
