"""The systemd units of examples/ say what the daemons understand."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest
from click import Command

from kubeletpy.kubelet_main import main as kubelet
from proxy.command import main as proxy
from runtime.cli import main as runtime

UNITS = Path(__file__).resolve().parents[3] / "examples" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    text = (UNITS / f"kubeletpy-{name}.service").read_text()
    parser.read_string(text.replace("\\\n", " "))
    return parser


@pytest.mark.parametrize(
    ("name", "command"), [("kubelet", kubelet), ("runtime", runtime), ("proxy", proxy)]
)
def test_flags_are_those_of_the_daemon(name: str, command: Command) -> None:
    program, subcommand, *arguments = shlex.split(unit(name)["Service"]["ExecStart"])
    assert (program, subcommand) == ("/usr/bin/kubeletpy", name)
    context = command.make_context(name, arguments, resilient_parsing=True)
    given = {key for key, value in context.params.items() if value}
    assert {one[2:].replace("-", "_") for one in arguments if one.startswith("--")} <= given


@pytest.mark.parametrize("name", ["kubelet", "runtime"])
def test_pods_outlive_the_daemon_and_it_tells_when_it_serves(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["Type"], service["KillMode"], service["Restart"]) == (
        "notify", "process", "always",
    )  # fmt: skip


def test_the_proxy_tells_when_it_serves_and_is_watched() -> None:
    service = unit("proxy")["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert int(service["WatchdogSec"]) > 1
