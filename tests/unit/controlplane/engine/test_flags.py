"""Flags of processes of controllers, as people write them for the Go peers."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from controlplane.engine.flags import host_flags, settings_of


@pytest.mark.parametrize(
    ("arguments", "elects"),
    [
        ([], True),
        (["--leader-elect"], True),
        (["--leader-elect=true"], True),
        (["--leader-elect=false"], False),
        (["--no-leader-elect"], False),
    ],
)
def test_the_election(arguments: list[str], elects: bool) -> None:
    found: list[bool] = []

    @click.command()
    @host_flags(1)
    def command(**given: Any) -> None:
        found.append(settings_of("test", given).elect)

    done = CliRunner().invoke(command, arguments)
    assert done.exception is None, done.output
    assert found == [elects]
