"""Objects of a file, without an API server: the rules printed, and written once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient
from tests.support.proxylab import proxies
from tests.support.proxylab.lab import Lab, stripped
from tests.support.proxylab.objects import node
from tests.support.proxylab.proxies import Settings

from .cases import MASQUERADED, Scenario, check
from .conftest import MODES
from .services import BOTH

pytestmark = pytest.mark.root


@pytest.mark.parametrize("settings", MODES)
def test_files_are_enough(lab: Lab, settings: Settings, tmp_path: Path) -> None:
    scenario = Scenario()
    where = scenario.add("plain", BOTH)
    scenario.expect("cluster IP", "pod", where, 80, BOTH)
    scenario.expect("cluster IP", "outside", where, 80, BOTH, MASQUERADED)
    objects = tmp_path / "objects.json"
    objects.write_text(json.dumps({"kind": "List", "items": [node(), *scenario.objects]}))

    def run(word: str) -> str:
        words = proxies.command(settings, tmp_path, "http://127.0.0.1:9")
        with in_namespace(lab.hosts["node"].path):
            done = subprocess.run(
                proxies.inside_mounts([*words, "--objects", str(objects), word]),
                env=proxies.environment(settings, tmp_path), cwd=proxies.REPOSITORY,
                capture_output=True, text=True, timeout=patient(60),
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    lab.wipe()
    before = stripped(lab.rules())
    planned = run("--dry-run")
    assert where(4) in planned
    assert where(6) in planned
    assert stripped(lab.rules()) == before
    run("--once")
    try:
        check(lab, scenario, settings)
    finally:
        lab.wipe()
