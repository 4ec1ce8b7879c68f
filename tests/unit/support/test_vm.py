"""The command line of the virtual machine, QEMU's, and the choice of tests."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.support import runner
from tests.vm import image
from tests.vm.__main__ import parse
from tests.vm.image import Image, ImageError
from tests.vm.inside import chosen
from tests.vm.machine import Disk, Hardware, Nic

IMAGE = Image(Path("/i/kernel"), Path("/i/initrd"), Path("/i/disk"))


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        ([], {"arguments": "all", "seconds": "3600"}),
        (["--brief"], {"arguments": "brief", "seconds": "600"}),
        (["--brief", "--seconds", "1500"], {"arguments": "brief", "seconds": "1500"}),
        (["-x", "-k", "a or b", "tests/root"],
         {"arguments": "-x\n-k\na or b\ntests/root", "seconds": "3600"}),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_pytests(arguments: list[str], files: dict[str, str]) -> None:
    options = parse(arguments)
    assert (options.files, options.make) == (files, False)
    assert options.seconds == float(files["seconds"])


@pytest.mark.parametrize("form", ["brief", "all"])
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
    monkeypatch.setattr(image, "suite", lambda: "bookworm")
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
    def none() -> str:
        raise ImageError("no Debian has Python 3.12")

    monkeypatch.setattr(image, "suite", none)
    assert runner._virtual_machine_aside(Path("/venv/bin/python")) == []
    shown = capsys.readouterr()
    assert "are not run: no Debian has Python 3.12" in shown.out + shown.err
