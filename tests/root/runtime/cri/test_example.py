"""The example client is what a newcomer copies: it has to work as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.root.runtime.cri.node import SLEEP, Node
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

EXAMPLE = Path(__file__).parents[4] / "examples/cri_client.py"


def test_it_shows_what_the_runtime_has(node: Node) -> None:
    with node.pod(name="shown") as sandbox:
        container = node.run(sandbox, *SLEEP)
        command = [sys.executable, str(EXAMPLE), str(node.place.socket)]
        shown = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=patient(30)
        )
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0] == ["kubeletpy", lines[0][1], "speaks", "v1"]
    assert ["sandbox", sandbox[:12], "tests/shown", "SANDBOX_READY"] in lines
    assert ["container", container[:12], "main", "CONTAINER_RUNNING"] in lines
    assert ["image", node.image[:19], f"{node.registry}/tests/busybox:v1"] in lines
