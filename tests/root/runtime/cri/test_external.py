"""Pods whose containers an external OCI runtime runs: runc by the name of a runtime handler."""

from __future__ import annotations

import pytest

from tests.root.runtime.cri.node import SLEEP, Node

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def settings() -> str:
    return (
        'default_runtime = "runc"\n'
        '[runtimes.runc]\npath = "/usr/sbin/runc"\n'
        '[runtimes.absent]\npath = "/usr/sbin/no-such-runtime"\n'
    )


def test_container_lives(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "sh", "-c", "echo out; echo err >&2; exit 3")
        status = node.wait_exited(container)
        assert status.exit_code == 3
        assert node.output(status) == "out\nerr"


def test_exec(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        result = node.exec(container, "sh", "-c", "echo hi; echo oh >&2; exit 7")
        assert (result.stdout, result.stderr, result.exit_code) == (b"hi\n", b"oh\n", 7)
        assert node.shell(container, "true") == ""
        node.stop(container, 5)
        assert node.status(container).exit_code == 0
