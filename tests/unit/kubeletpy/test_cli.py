from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kubeletpy.cli import main

CHECKOUT = Path(__file__).resolve().parents[3]


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in ("runtime", "kubelet", "proxy", "policy", "up", "doctor", "version", "completion"):
        assert f"\n  {name} " in result.output


def test_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(main, ["no-such"]).exit_code == 2


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("runtime", "runtime"),
        ("kubelet", "kubeletpy.kubelet_main"),
        ("proxy", "proxy"),
        ("policy", "proxy.policy"),
    ],
)
def test_daemons_replace_the_process_and_get_all_arguments(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda program, arguments: started.append(arguments))
    CliRunner().invoke(main, [name, "--help", "--flag=1", "-v", "--", "x"])
    assert started == [[sys.executable, "-P", "-m", module, "--help", "--flag=1", "-v", "--", "x"]]


def test_daemon_start_loads_no_heavy_library() -> None:
    script = (
        "import os, sys\n"
        "os.execv = lambda *_: print([m for m in ('grpc', 'aiohttp', 'rich', 'runtime') "
        "if m in sys.modules])\n"
        "from kubeletpy.cli import main\n"
        "main(['runtime'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_us_back(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0, result.output
    assert f"_KUBELETPY_COMPLETE={shell}_complete" in result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["proxy", "--nodeport-a"], "plain,--nodeport-addresses"),
        (["proxy", "--once", "--kubec"], "plain,--kubeconfig"),
        (["pro"], "plain,proxy"),
    ],
)
def test_flags_of_daemons_are_completed(words: list[str], expected: str) -> None:
    environment = {
        "_KUBELETPY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["kubeletpy", *words]),
        "COMP_CWORD": str(len(words)), "PYTHONPATH": str(CHECKOUT),
    }  # fmt: skip
    result = CliRunner().invoke(main, [], env=environment, prog_name="kubeletpy")
    assert result.output.splitlines() == [expected]
