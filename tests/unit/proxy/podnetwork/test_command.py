"""The command lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy import command as proxy_command
from proxy.podnetwork.command import main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "--cluster-cidr is needed"),
        (["--cluster-cidr", "10.0.0.0/8", "--vxlan-vni", "0"], "--vxlan-vni 0 is not within"),
        (["--cluster-cidr", "10.0.0.0/8", "--kubeconfig", "/nowhere/x"], "/nowhere/x"),
    ],
)
def test_what_cannot_be_is_said_and_ends(words: list[str], text: str) -> None:
    done = CliRunner().invoke(main, [*words, "--hostname-override", "n1"])
    assert done.exit_code == 1
    assert text in done.output


def test_an_unknown_mode_is_refused() -> None:
    done = CliRunner().invoke(main, ["--mode", "ipip"])
    assert done.exit_code == 2
    assert "host-gw" in done.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--objects", "OBJECTS", "--pod-network", "auto"], "--pod-network needs an API server"),
        (["--kubeconfig", "/nowhere/x", "--pod-network=auto"], "--cluster-cidr is needed"),
    ],
)
def test_within_the_proxy(tmp_path: Path, words: list[str], text: str) -> None:
    words = [str(tmp_path) if each == "OBJECTS" else each for each in words]
    done = CliRunner().invoke(proxy_command.main, words)
    assert done.exit_code == 1
    assert text in done.output
