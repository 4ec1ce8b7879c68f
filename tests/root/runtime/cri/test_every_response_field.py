"""No field of any answer stays empty: all that the protocol can tell is told somewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from kubeletpy_common.linux import mounts as m
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, refused, remove_all
from tests.support.circumstances import CGROUP_DRIVER

pytestmark = pytest.mark.root

IDS = [cri.IDMapping(host_id=300_000, container_id=0, length=65_536)]
WITH_USERS = cri.NamespaceOption(
    pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.POD, uids=IDS, gids=IDS)
)
# Values may be zero on an idle machine, or absent on a kernel that does not keep them; they are
# compared with the kernel's files in test_stats.py.
MEASURED = {
    "ContainerStats", "CpuUsage", "IoUsage", "LinuxPodSandboxStats", "MemoryUsage", "Metric",
    "NetworkInterfaceUsage", "NetworkUsage", "ProcessUsage", "PsiData", "PsiStats", "SwapUsage",
}  # fmt: skip
EMPTY = {
    # Of a system that this is not.
    ("ContainerResources", "windows"),
    ("PodSandboxStats", "windows"),
    # What the one field of an image's spec leaves: no annotations of manifests are kept.
    ("ImageSpec", "annotations"),
    # Pods of the host's network have no user namespace of their own here.
    ("RuntimeFeatures", "user_namespaces_host_network"),
    # TARGET is of containers alone; it comes back in no answer.
    ("NamespaceOption", "target_id"),
    # A limit of zero is none.
    ("HugepageLimit", "limit"),
    # Files of cgroup v2: refused where the controllers are on v1.
    ("LinuxContainerResources", "unified"),
    # Said while something is missing: test_cni.py.
    ("RuntimeCondition", "reason"),
    ("RuntimeCondition", "message"),
}
if CGROUP_DRIVER == "systemd":
    # Its number is zero.
    EMPTY.add(("LinuxRuntimeConfiguration", "cgroup_driver"))


@pytest.fixture(scope="module")
def settings() -> str:
    return '[images]\npinned = ["*/tests/named:*"]\n'


def filled(message: Message) -> Iterator[tuple[str, str]]:
    """Yield the fields that a message has a value in, and those of what it consists of."""
    name = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        yield (name, field.name)
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else [value]:
            yield from filled(item)


def of_responses() -> set[tuple[str, str]]:
    """Return all fields that an answer can have."""
    todo = [
        descriptor
        for name, descriptor in cri.DESCRIPTOR.message_types_by_name.items()
        if name.endswith("Response") and not name.startswith(("Checkpoint", "Restore"))
    ]
    seen: dict[str, Descriptor] = {}
    while todo:
        descriptor = todo.pop()
        if descriptor.name in seen or descriptor.name.startswith("Windows"):
            continue
        seen[descriptor.name] = descriptor
        todo += [
            field.message_type
            for field in descriptor.fields
            if field.message_type and not field.message_type.GetOptions().map_entry
        ]
    fields = {(name, field.name) for name, d in seen.items() for field in d.fields}
    return {
        (name, field)
        for name, field in fields - EMPTY
        # In a wrapper a zero is told as well as any other number.
        if name not in MEASURED | {"UInt64Value", "Int64Value"}
    }


def ask(node: Node, name: str, request: Message) -> list[Message]:
    stub = node.images if hasattr(node.images, name) else node.runtime
    answer = getattr(stub, name)(request, timeout=CALL_SECONDS)
    return [answer] if isinstance(answer, Message) else list(answer)


def full_pod(node: Node) -> str:
    config = node.pod_config(
        namespaces=cri.NamespaceOption(pid=cri.CONTAINER, ipc=cri.NODE),
        labels={"a": "b"},
        annotations={"c": "d"},
    )
    config.metadata.attempt = 3
    request = cri.RunPodSandboxRequest(config=config, runtime_handler="kubeletpy")
    return node.runtime.RunPodSandbox(request, timeout=CALL_SECONDS).pod_sandbox_id


def full_container(node: Node, sandbox: str, tmp_path: Path) -> str:
    config = node.container_config(
        *SLEEP,
        labels={"a": "b"},
        annotations={"c": "d"},
        stdin=True,
        resources={
            "cpu_period": 100_000, "cpu_quota": 50_000, "cpu_shares": 100, "oom_score_adj": 900,
            "memory_limit_in_bytes": 64 << 20, "memory_swap_limit_in_bytes": 64 << 20,
            "cpuset_cpus": "0", "cpuset_mems": "0",
        },
        image=cri.ImageSpec(image=node.image, user_specified_image="busybox",
                            runtime_handler="kubeletpy"),
        mounts=[
            cri.Mount(container_path="/m", host_path=str(tmp_path), readonly=True,
                      selinux_relabel=True, recursive_read_only=True, mount_options=["noexec"]),
            cri.Mount(container_path="/p", host_path=str(tmp_path / "shared"),
                      propagation=cri.PROPAGATION_HOST_TO_CONTAINER),
            cri.Mount(container_path="/i", readonly=True, image_sub_path="etc",
                      image=cri.ImageSpec(image=node.image)),
        ],
    )  # fmt: skip
    config.metadata.attempt = 2
    container = node.create(sandbox, config)
    node.start(container)
    return container


def answers(node: Node, tmp_path: Path) -> Iterator[Message]:
    for name, request in (
        ("Version", cri.VersionRequest()),
        ("Status", cri.StatusRequest(verbose=True)),
        ("RuntimeConfig", cri.RuntimeConfigRequest()),
        ("ListMetricDescriptors", cri.ListMetricDescriptorsRequest()),
    ):
        yield from ask(node, name, request)
    node.pull(node.push("tests/numbered", {"x": b"1"}, User="1000"))
    image = cri.ImageSpec(image=node.pull(node.push("tests/named", {"x": b""}, User="web")))
    spec = cri.ImageSpec(image=f"{node.registry}/tests/named:v1")
    yield from ask(node, "PullImage", cri.PullImageRequest(image=spec))
    yield from ask(node, "ImageStatus", cri.ImageStatusRequest(image=image, verbose=True))
    for name in ("ListImages", "StreamImages", "ImageFsInfo"):
        yield from ask(node, name, getattr(cri, f"{name}Request")())
    sandbox = full_pod(node)
    container = full_container(node, sandbox, tmp_path)
    yield cri.RunPodSandboxResponse(pod_sandbox_id=sandbox)
    yield cri.CreateContainerResponse(container_id=container)
    for name in ("ContainerStats", "ContainerStatus"):
        fields: dict[str, Any] = {"verbose": True} if name.endswith("Status") else {}
        request = getattr(cri, f"{name}Request")(container_id=container, **fields)
        yield from ask(node, name, request)
    for name in ("PodSandboxStats", "PodSandboxStatus"):
        fields = {"verbose": True} if name.endswith("Status") else {}
        request = getattr(cri, f"{name}Request")(pod_sandbox_id=sandbox, **fields)
        yield from ask(node, name, request)
    for kind in ("PodSandboxes", "Containers", "ContainerStats", "PodSandboxStats",
                 "PodSandboxMetrics"):  # fmt: skip
        listed = "ListPodSandbox" if kind == "PodSandboxes" else f"List{kind}"
        for name in (listed, f"Stream{kind}"):
            yield from ask(node, name, getattr(cri, f"{name}Request")())
    command = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    run = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=20)
    yield from ask(node, "ExecSync", run)
    yield from ask(node, "Exec", cri.ExecRequest(container_id=container, cmd=["x"], stdout=True))
    yield from ask(node, "Attach", cri.AttachRequest(container_id=container, stdout=True))
    yield from ask(node, "PortForward", cri.PortForwardRequest(pod_sandbox_id=sandbox, port=[80]))
    with node.events() as events:
        missing = node.create(sandbox, node.container_config("missing", name="missing"))
        refused(lambda: node.start(missing))
        deadline = time.monotonic() + CALL_SECONDS
        for event in events:
            yield event
            if event.container_event_type == cri.CONTAINER_STOPPED_EVENT:
                break
            assert time.monotonic() < deadline
    failed = node.run_to_end(sandbox, "sh", "-c", "exit 7", name="failed")
    yield failed
    yield node.status(missing)
    pages = [cri.HugepageLimit(page_size="2MB")]
    huge = node.container_config("true", name="huge", resources={"hugepage_limits": pages})
    yield node.status(node.create(sandbox, huge))
    ended = cri.ListContainersRequest()
    yield from ask(node, "ListContainers", ended)
    node.stop_pod(sandbox)
    yield from ask(node, "ListPodSandbox", cri.ListPodSandboxRequest())
    yield node.pod_status(sandbox)
    with_host = cri.NamespaceOption(
        network=cri.NODE, pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.NODE)
    )
    with node.pod(namespaces=with_host) as other:
        yield node.pod_status(other)
    yield from with_user_namespace(node, tmp_path)


def with_user_namespace(node: Node, tmp_path: Path) -> Iterator[Message]:
    mounts = [
        cri.Mount(container_path="/m", host_path=str(tmp_path), uidMappings=IDS, gidMappings=IDS)
    ]
    second = cri.IDMapping(host_id=400_000, container_id=65_536, length=1)
    options = cri.NamespaceOption()
    options.CopyFrom(WITH_USERS)
    options.userns_options.uids.append(second)
    with node.pod(namespaces=options) as sandbox:
        security = {"namespace_options": options, "run_as_user": cri.Int64Value(value=1000)}
        mounts[0].uidMappings.append(second)
        container = node.run(sandbox, *SLEEP, mounts=mounts, security=security)
        yield node.status(container)
        yield node.pod_status(sandbox)


def test_no_field_of_an_answer_stays_empty(node: Node, tmp_path: Path) -> None:
    told: set[tuple[str, str]] = set()
    shared = tmp_path / "shared"
    shared.mkdir()
    with ExitStack() as stack:
        m.mount(shared, shared, None, m.MS_BIND)
        stack.callback(m.umount, shared, m.MNT_DETACH)
        m.mount(None, shared, None, m.MS_SHARED)
        stack.callback(remove_all, node)
        for answer in answers(node, tmp_path):
            told |= set(filled(answer))
    # Written so that the difference is what a failure shows.
    missing = sorted(of_responses() - told)
    assert not missing, "\n".join(map(str, missing))
    assert sorted(told & EMPTY) == []


def test_the_walk_sees_what_is_missing() -> None:
    fields: Iterable[tuple[str, str]] = filled(
        cri.ContainerStatusResponse(status=cri.ContainerStatus(id="x"))
    )
    assert set(fields) == {("ContainerStatusResponse", "status"), ("ContainerStatus", "id")}
    assert ("ContainerStatus", "user") in of_responses()
