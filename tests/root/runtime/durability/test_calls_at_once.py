"""Calls that are repeated, that come at once, and pods that hang."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node
from tests.root.runtime.durability import reality

pytestmark = pytest.mark.root

AT_ONCE = 8


def outcomes(call: Callable[[], object]) -> list[str]:
    """Make the same call many times at once; return how each ended, sorted: "OK", or the error."""

    def outcome(_: int) -> str:
        try:
            call()
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return sorted(threads.map(outcome, range(AT_ONCE)))


@contextmanager
def hanging(shim: int) -> Iterator[None]:
    """Have a shim answer nobody within the block."""
    os.kill(shim, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(shim, signal.SIGCONT)


def test_what_is_not_there_is_stopped_and_removed(node: Node) -> None:
    unknown = secrets.token_hex(32)
    for _ in range(2):
        node.stop(unknown)
        node.remove(unknown)
        node.remove_pod(unknown)
        spec = cri.ImageSpec(image=f"sha256:{unknown}")
        node.images.RemoveImage(cri.RemoveImageRequest(image=spec))


@pytest.mark.parametrize("timeout", [0, 5])
def test_the_same_end_asked_for_many_times_at_once(node: Node, timeout: int) -> None:
    everyone = ["OK"] * AT_ONCE
    sandbox = node.run_pod()
    first, second = (node.run(sandbox, *SLEEP, name=name) for name in ("first", "second"))
    assert outcomes(lambda: node.stop(first, timeout)) == everyone
    assert outcomes(lambda: node.remove(second)) == everyone
    assert outcomes(lambda: node.stop_pod(sandbox)) == everyone
    assert outcomes(lambda: node.remove_pod(sandbox)) == everyone
    assert node.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items == []


def test_a_container_of_a_pod_that_hangs_is_stopped_many_times_at_once(node: Node) -> None:
    sandbox = node.run_pod()
    container = node.run(sandbox, *SLEEP)
    shim = reality.shims(node.place)[sandbox]
    with hanging(shim):
        assert outcomes(lambda: node.stop(container)) == ["OK"] * AT_ONCE
        assert node.status(container).exit_code == 137
    node.remove_pod(sandbox)


def test_one_of_many_equal_beginnings_succeeds(node: Node) -> None:
    config = node.pod_config()
    run = cri.RunPodSandboxRequest(config=config)
    assert outcomes(lambda: node.runtime.RunPodSandbox(run)).count("OK") == 1
    [pod] = node.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items
    try:
        main = node.container_config(*SLEEP)
        assert outcomes(lambda: node.create(pod.id, main)).count("OK") == 1
        [container] = node.runtime.ListContainers(cri.ListContainersRequest()).containers
        assert outcomes(lambda: node.start(container.id)).count("OK") == 1
        assert node.shell(container.id, "echo alive") == "alive"
    finally:
        node.remove_pod(pod.id)


def test_a_pod_that_is_removed_while_things_begin_in_it(node: Node) -> None:
    for _ in range(5):
        sandbox = node.run_pod()

        def begin(number: int, sandbox: str = sandbox) -> str:
            try:
                node.run(sandbox, *SLEEP, name=f"c{number}")
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        with ThreadPoolExecutor(AT_ONCE + 1) as threads:
            begun = [threads.submit(begin, number) for number in range(AT_ONCE)]
            threads.submit(node.remove_pod, sandbox).result()
            codes = {future.result() for future in begun}
        assert codes <= {"OK", "NOT_FOUND", "FAILED_PRECONDITION", "UNKNOWN"}
        left = reality.look(node.place)
        assert not left.shims
        assert not left.processes
        assert not left.cgroups
        assert not left.writable


def test_a_pod_that_hangs_blocks_only_itself_and_can_be_removed(node: Node) -> None:
    sandbox = node.run_pod()
    container = node.run(sandbox, *SLEEP)
    shim = reality.shims(node.place)[sandbox]
    with hanging(shim), ThreadPoolExecutor(1) as threads:
        removal = threads.submit(node.remove_pod, sandbox)
        began = time.monotonic()
        with node.pod() as other:
            assert node.shell(node.run(other, *SLEEP), "echo alive") == "alive"
        assert len(node.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items) == 1
        assert not removal.done()
        assert time.monotonic() - began < 8
        removal.result()
    assert container not in reality.look(node.place).processes
