"""The units of examples/systemd are those of a node of a cluster with other networks than ours."""

from __future__ import annotations

from pathlib import Path

from kubeletpy.install import units
from kubeletpy.install.installation import NodeInstallation

EXAMPLES = Path(__file__).resolve().parents[4] / "examples/systemd"


def rendered() -> dict[str, str]:
    one = NodeInstallation(
        role="node", program=("/usr/bin/kubeletpy",), node_name="node1", cgroup_driver="systemd"
    )
    return {each.path.name: each.text for each in units.rendered(one)}


def test_examples_are_what_is_rendered() -> None:
    found = {path.name: path.read_text() for path in EXAMPLES.iterdir()}
    assert found == rendered(), "write them anew from rendered()"
