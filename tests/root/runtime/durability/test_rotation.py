"""Logs that are rotated while a container writes as fast as it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import Node, wait_until

pytestmark = pytest.mark.root

ROTATIONS = 40
LINE = 40_000
"""Bytes of a long line: three entries."""


class Rotated:
    """A container that writes without a pause, and its log files."""

    def __init__(self, node: Node, sandbox: str, script: str) -> None:
        self._node = node
        self._gate = node.place.directory / f"gate-{sandbox[:8]}"
        self._gate.mkdir()
        mount = cri.Mount(container_path="/gate", host_path=str(self._gate))
        self._container = node.run(sandbox, "sh", "-c", script, mounts=[mount])
        self._log = Path(node.status(self._container).log_path)
        self.files: list[Path] = []

    def rotate(self) -> None:
        """As a kubelet does: rename, then tell the runtime; once there is something in it."""
        wait_until(lambda: self._log.exists() and self._log.stat().st_size > 0, "a line", 20)
        target = self._log.with_suffix(f".{len(self.files)}")
        self._log.rename(target)
        self.files.append(target)
        request = cri.ReopenContainerLogRequest(container_id=self._container)
        self._node.runtime.ReopenContainerLog(request)

    def entries(self) -> list[tuple[str, str]]:
        """End the container; return tag and text of every entry of all files, in order."""
        (self._gate / "stop").touch()
        assert self._node.wait_exited(self._container).exit_code == 0
        found = []
        for file in [*self.files, self._log]:
            text = file.read_text()
            assert text.endswith("\n")
            for line in text.splitlines():
                _, stream, tag, rest = line.split(" ", 3)
                assert stream == "stdout"
                found.append((tag, rest))
        return found


def test_no_line_is_lost_or_doubled_by_rotations_under_load(node: Node) -> None:
    script = "i=0; while [ ! -e /gate/stop ]; do seq $i $((i+9999)); i=$((i+10000)); done; echo end"
    with node.pod() as sandbox:
        rotated = Rotated(node, sandbox, script)
        for _ in range(ROTATIONS):
            rotated.rotate()
        *numbers, (_, end) = rotated.entries()
    assert end == "end"
    assert len(numbers) >= 10_000
    assert numbers == [("F", str(number)) for number in range(len(numbers))]


def test_parts_of_long_lines_stay_in_order_over_rotations(node: Node) -> None:
    script = f"i=0; while [ ! -e /gate/stop ]; do printf '%0{LINE}d\\n' $i; i=$((i+1)); done"
    with node.pod() as sandbox:
        rotated = Rotated(node, sandbox, script)
        for _ in range(ROTATIONS):
            rotated.rotate()
        entries = rotated.entries()
    whole, rest = [], ""
    for tag, text in entries:
        rest += text
        if tag == "F":
            whole.append(rest)
            rest = ""
    assert rest == ""
    assert len(whole) >= ROTATIONS
    assert whole == [f"{number:0{LINE}d}" for number in range(len(whole))]
