"""Pods and containers from their creation to their removal, through the socket."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto.cri_pb2_grpc import RuntimeServiceStub
from tests.root.runtime.cri.node import SLEEP, Node, refused, wait_until
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*")


def test_version_status_and_runtime_config(node: Node) -> None:
    version = node.runtime.Version(cri.VersionRequest())
    assert (version.runtime_name, version.runtime_api_version) == ("kubeletpy", "v1")
    status = node.runtime.Status(cri.StatusRequest(verbose=True))
    conditions = {c.type: c.status for c in status.status.conditions}
    assert conditions == {"RuntimeReady": True, "NetworkReady": True}
    assert "" in [handler.name for handler in status.runtime_handlers]
    assert status.info["config"]
    config = node.runtime.RuntimeConfig(cri.RuntimeConfigRequest())
    assert cri.CgroupDriver.Name(config.linux.cgroup_driver) == node.place.driver.upper()


def test_a_pod_and_its_container_from_start_to_end(node: Node) -> None:
    before = time.time_ns()
    sandbox = node.run_pod(name="whole", labels={"app": "web"}, annotations={"note": "x"})
    status = node.pod_status(sandbox)
    assert status.state == cri.SANDBOX_READY
    assert status.network.ip.startswith("10.87.0.")
    assert [ip.ip[:6] for ip in status.network.additional_ips] == ["fd87::"]
    assert status.linux.namespaces.options.pid == cri.CONTAINER
    assert before < status.created_at < time.time_ns()
    assert (dict(status.labels), dict(status.annotations)) == ({"app": "web"}, {"note": "x"})

    script = "echo out; echo err >&2; trap 'exit 3' TERM; sleep 1000 & wait"
    container = node.create(sandbox, node.container_config("sh", "-c", script))
    created = node.status(container)
    assert (created.state, created.started_at) == (cri.CONTAINER_CREATED, 0)
    node.start(container)
    running = node.status(container)
    assert running.state == cri.CONTAINER_RUNNING
    assert created.created_at < running.started_at < time.time_ns()
    assert running.image_id == node.image
    assert running.image.image.endswith("tests/busybox:v1")
    assert "@sha256:" in running.image_ref
    assert node.exec(container, "sh", "-c", "hostname; exit 7") == cri.ExecSyncResponse(
        stdout=b"whole\n", exit_code=7
    )

    node.wait_heeding(container)
    node.stop(container, timeout=20)
    ended = node.status(container)
    assert (ended.state, ended.exit_code, ended.reason) == (cri.CONTAINER_EXITED, 3, "Error")
    assert running.started_at < ended.finished_at < time.time_ns()
    lines = Path(ended.log_path).read_text().splitlines()
    assert all(LOG_LINE.fullmatch(line) for line in lines), lines
    assert sorted(line.split(" ", 1)[1] for line in lines) == ["stderr F err", "stdout F out"]

    node.remove(container)
    assert refused(lambda: node.status(container)).code() == grpc.StatusCode.NOT_FOUND
    node.stop_pod(sandbox)
    stopped = node.pod_status(sandbox)
    assert (stopped.state, stopped.network.ip) == (cri.SANDBOX_NOTREADY, "")
    node.remove_pod(sandbox)
    assert refused(lambda: node.pod_status(sandbox)).code() == grpc.StatusCode.NOT_FOUND


def test_stopping_and_removing_are_idempotent(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        for _ in range(2):
            node.stop(container, timeout=10)
        for _ in range(2):
            node.remove(container)
        node.stop(container)
        node.stop_pod(sandbox)
    node.remove_pod(sandbox)
    node.remove_pod("0" * 64)
    node.stop("0" * 64)


def test_a_container_that_ignores_the_stop_signal_is_killed(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
        started = time.monotonic()
        node.stop(container, timeout=1)
        assert time.monotonic() - started >= 1
        status = node.status(container)
        assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 137)


def test_the_stop_signal_is_the_requests_or_the_images(node: Node) -> None:
    image = node.pull(node.push("tests/signals", StopSignal="SIGUSR1"))
    script = "trap 'exit 10' USR1; trap 'exit 12' USR2; sleep 1000 & wait"
    with node.pod() as sandbox:
        spec = cri.ImageSpec(image=image)
        by_image = node.run(sandbox, "sh", "-c", script, name="a", image=spec)
        by_request = node.run(
            sandbox, "sh", "-c", script, name="b", image=spec, stop_signal=cri.SIGNAL_SIGUSR2
        )
        assert node.status(by_image).stop_signal == cri.SIGNAL_SIGUSR1
        for container, code in ((by_image, 10), (by_request, 12)):
            node.wait_heeding(container, signal.SIGUSR1)
            node.wait_heeding(container, signal.SIGUSR2)
            node.stop(container, timeout=20)
            assert node.status(container).exit_code == code


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [("exit 0", 0, "Completed"), ("exit 42", 42, "Error"), ("kill -9 $$", 137, "Error")],
)
def test_exit_codes_and_reasons(node: Node, script: str, code: int, reason: str) -> None:
    with node.pod(namespaces=cri.NamespaceOption(pid=cri.POD)) as sandbox:
        # In the pod's PID namespace the shell is not process 1, which could not kill itself.
        security = {"namespace_options": cri.NamespaceOption(pid=cri.POD)}
        status = node.run_to_end(sandbox, "sh", "-c", script, security=security)
        assert (status.exit_code, status.reason) == (code, reason)


def test_a_program_that_does_not_exist_ends_the_container_with_128(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.create(sandbox, node.container_config("/no/such/program"))
        error = refused(lambda: node.start(container))
        assert "/no/such/program" in (error.details() or "")
        status = node.status(container)
        assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 128)
        assert status.reason == "StartError"
        assert "/no/such/program" in status.message
        assert refused(lambda: node.start(container)).code() == grpc.StatusCode.FAILED_PRECONDITION


def test_exec_with_a_timeout_is_killed(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        error = refused(lambda: node.exec(container, "sleep", "321", timeout=1))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert node.shell(container, "ps | grep -c '[s]leep 321' || true") == "0"


def test_exec_of_a_missing_program_and_of_a_stopped_container(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        error = refused(lambda: node.exec(container, "no-such-program"))
        assert "no-such-program" in (error.details() or "")
        node.stop(container, timeout=10)
        error = refused(lambda: node.exec(container, "true"))
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_exec_output_is_bounded(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        channel = grpc.insecure_channel(
            f"unix://{node.place.socket}", options=[("grpc.max_receive_message_length", 17 << 20)]
        )
        with channel:
            request = cri.ExecSyncRequest(
                container_id=container,
                cmd=["sh", "-c", "head -c 20000000 /dev/zero; echo end >&2"],
                timeout=int(patient(30)),
            )
            result = RuntimeServiceStub(channel).ExecSync(request)
        assert result.exit_code == 0
        assert 15 << 20 < len(result.stdout) + len(result.stderr) < 16 << 20


def test_names_are_unique_and_ids_can_be_shortened(node: Node) -> None:
    config = node.pod_config(name="unique")
    sandbox = node.run_pod(config)
    try:
        assert refused(lambda: node.run_pod(config)).code() == grpc.StatusCode.ALREADY_EXISTS
        container = node.create(sandbox, node.container_config("true"))
        again = refused(lambda: node.create(sandbox, node.container_config("true")))
        assert again.code() == grpc.StatusCode.ALREADY_EXISTS
        assert node.status(container[:12]).id == container
        assert node.pod_status(sandbox[:12]).id == sandbox
    finally:
        node.remove_pod(sandbox)


def test_lists_and_filters(node: Node) -> None:
    with node.pod(labels={"app": "a"}) as one, node.pod(labels={"app": "b"}) as two:
        first = node.run(one, *SLEEP, labels={"tier": "x"})
        second = node.create(two, node.container_config("true"))

        def pods(**fields: object) -> set[str]:
            request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(**fields))  # type: ignore[arg-type]
            return {item.id for item in node.runtime.ListPodSandbox(request).items}

        def containers(**fields: object) -> set[str]:
            request = cri.ListContainersRequest(filter=cri.ContainerFilter(**fields))  # type: ignore[arg-type]
            return {item.id for item in node.runtime.ListContainers(request).containers}

        assert pods() == {one, two}
        assert pods(label_selector={"app": "a"}) == {one}
        assert pods(id=two) == {two}
        assert pods(state=cri.PodSandboxStateValue(state=cri.SANDBOX_NOTREADY)) == set()
        assert containers() == {first, second}
        assert containers(pod_sandbox_id=one) == {first}
        assert containers(label_selector={"tier": "x"}) == {first}
        running = cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)
        assert containers(state=running) == {first}


def test_containers_end_with_their_pod(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        node.stop_pod(sandbox)
        status = node.status(container)
        assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 137)
        error = refused(lambda: node.create(sandbox, node.container_config("true", name="late")))
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_verbose_shows_the_inside(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        response = node.runtime.ContainerStatus(
            cri.ContainerStatusRequest(container_id=container, verbose=True)
        )
        assert '"ociVersion": "1.2.0"' in response.info["info"]
        pod = node.runtime.PodSandboxStatus(
            cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True)
        )
        assert '"pid"' in pod.info["info"]
        assert [status.id for status in pod.containers_statuses] == [container]


def test_checkpoints_answer_unimplemented(node: Node) -> None:
    calls = [
        lambda: node.runtime.CheckpointContainer(cri.CheckpointContainerRequest()),
        lambda: node.runtime.CheckpointPod(cri.CheckpointPodRequest()),
        lambda: node.runtime.RestorePod(cri.RestorePodRequest()),
    ]
    for call in calls:
        error = refused(call)
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "not implemented" in (error.details() or "")


def test_image_calls(node: Node) -> None:
    reference = node.push("tests/removable", {"etc/motd": b"x"}, User="1000")
    image = node.pull(reference)
    found = node.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=reference)))
    assert (found.image.id, found.image.uid.value) == (image, 1000)
    listed = node.images.ListImages(cri.ListImagesRequest()).images
    assert {image, node.image} <= {item.id for item in listed}
    for wanted, expected in ((reference, [image]), (f"{node.registry}/tests/none:v1", [])):
        chosen = cri.ImageFilter(image=cri.ImageSpec(image=wanted))
        answer = node.images.ListImages(cri.ListImagesRequest(filter=chosen))
        assert [item.id for item in answer.images] == expected
    usage = node.images.ImageFsInfo(cri.ImageFsInfoRequest()).image_filesystems[0]
    assert usage.used_bytes.value > 1 << 20
    for _ in range(2):
        node.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=image)))
    absent = node.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=reference)))
    assert not absent.HasField("image")
    with node.pod() as sandbox:
        missing = node.container_config("true", image=cri.ImageSpec(image=reference))
        error = refused(lambda: node.create(sandbox, missing))
        assert error.code() == grpc.StatusCode.NOT_FOUND
    for call, request in (
        (node.images.PullImage, cri.PullImageRequest),
        (node.images.ImageStatus, cri.ImageStatusRequest),
        (node.images.RemoveImage, cri.RemoveImageRequest),
    ):
        spec = cri.ImageSpec(image=reference, runtime_handler="nobody-has-it")
        error = refused(lambda c=call, r=request, s=spec: c(r(image=s)))  # type: ignore[misc]
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    absent_pull = refused(lambda: node.pull(f"{node.registry}/tests/none:v1"))
    assert absent_pull.code() == grpc.StatusCode.NOT_FOUND


def test_a_long_stop_holds_up_nobody_and_a_shorter_one_wins(node: Node) -> None:
    with node.pod() as sandbox, ThreadPoolExecutor(1) as threads:
        stubborn = node.run(sandbox, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
        started = time.monotonic()
        long_stop = threads.submit(node.stop, stubborn, timeout=50)
        with node.pod() as other:
            assert node.run_to_end(other, "true").exit_code == 0
        assert node.run_to_end(sandbox, "true", name="sibling").exit_code == 0
        assert node.shell(stubborn, "echo alive") == "alive"
        assert not long_stop.done()
        node.stop(stubborn, timeout=0)
        long_stop.result(timeout=patient(20))
        assert time.monotonic() - started < 40
        assert node.status(stubborn).exit_code == 137


def test_many_pods_at_once(node: Node) -> None:
    def live(_: int) -> str:
        with node.pod() as sandbox:
            container = node.run(sandbox, *SLEEP)
            address = node.pod_status(sandbox).network.ip
            assert node.shell(container, "echo alive") == "alive"
            node.stop(container)
        return address

    with ThreadPoolExecutor(8) as threads:
        addresses = list(threads.map(live, range(16)))
    assert all(address.startswith("10.87.0.") for address in addresses)


def test_a_command_ends_when_its_caller_goes_away(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        request = cri.ExecSyncRequest(container_id=container, cmd=["sleep", "765"])
        call = node.runtime.ExecSync.future(request)

        def running() -> bool:
            return node.shell(container, "ps | grep -c '[s]leep 765' || true") == "1"

        wait_until(running, "the command to run", 10)
        call.cancel()
        wait_until(lambda: not running(), "the command to be killed", 10)


def test_a_caller_that_goes_away_does_not_leave_half_a_pod(node: Node) -> None:
    config = node.pod_config(name="abandoned")
    node.runtime.RunPodSandbox.future(cri.RunPodSandboxRequest(config=config)).cancel()
    call = node.runtime.RunPodSandbox.future(cri.RunPodSandboxRequest(config=config))
    outcome = call.exception()
    # Either the first call never began, or it went on to its end and holds the name.
    if outcome is not None:
        assert isinstance(outcome, grpc.RpcError)
        assert outcome.code() == grpc.StatusCode.ALREADY_EXISTS
    items: list[cri.PodSandbox] = []

    def listed() -> bool:
        items[:] = node.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items
        return len(items) == 1

    wait_until(listed, "the pod", 10)
    assert node.run_to_end(items[0].id, "true").exit_code == 0
    node.remove_pod(items[0].id)
