"""Which container or pod a word names."""

from __future__ import annotations

import pytest

from kubeletpy.cri_cli.find import NotOne, one_container, one_pod
from kubeletpy_proto import cri_pb2 as cri


def container(
    identifier: str, name: str, pod: str, *, running: bool = True, at: int = 0
) -> cri.Container:
    return cri.Container(
        id=identifier,
        pod_sandbox_id=f"sandbox-{pod}",
        metadata=cri.ContainerMetadata(name=name),
        state=cri.CONTAINER_RUNNING if running else cri.CONTAINER_EXITED,
        created_at=at,
        labels={"io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.name": pod},
    )


CONTAINERS = [
    container("aaaa1111", "nginx", "web", running=False, at=1),
    container("aaaa2222", "nginx", "web", at=2),
    container("bbbb3333", "nginx", "other"),
    container("cccc4444", "log", "web", running=False, at=1),
    container("cccc5555", "log", "web", running=False, at=5),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("aaaa1111", "aaaa1111"),
        ("bbb", "bbbb3333"),
        ("web/nginx", "aaaa2222"),
        ("default/other/nginx", "bbbb3333"),
        ("log", "cccc5555"),
    ],
)
def test_ids_prefixes_and_names(wanted: str, expected: str) -> None:
    assert one_container(CONTAINERS, wanted).id == expected


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("nginx", ["aaaa2222 (default/web/nginx)", "bbbb3333", "give more"]),
        ("zzz", ["there is no container 'zzz'", "kubeletpy cri ps -a"]),
        ("", ["there is no container"]),
    ],
)
def test_what_is_not_one_is_told(wanted: str, words: list[str]) -> None:
    with pytest.raises(NotOne) as caught:
        one_container(CONTAINERS, wanted)
    assert all(word in caught.value.message for word in words)


def test_a_container_that_has_to_run() -> None:
    with pytest.raises(NotOne, match=r"not running \(exited\)"):
        one_container(CONTAINERS, "log", running=True)
    with pytest.raises(NotOne, match="no container"):
        one_container(CONTAINERS, "nothing", running=True)


def test_pods_by_name_prefer_the_one_that_is_up() -> None:
    def pod(
        identifier: str, namespace: str, state: cri.PodSandboxState.ValueType
    ) -> cri.PodSandbox:
        metadata = cri.PodSandboxMetadata(name="web", namespace=namespace)
        return cri.PodSandbox(id=identifier, metadata=metadata, state=state)

    pods = [pod("a1", "x", cri.SANDBOX_NOTREADY), pod("a2", "x", cri.SANDBOX_READY)]
    assert one_pod(pods, "web").id == "a2"
    assert one_pod(pods, "x/web").id == "a2"
    assert one_pod(pods, "a1").id == "a1"
    with pytest.raises(NotOne, match="could be"):
        one_pod([*pods, pod("b1", "y", cri.SANDBOX_READY)], "web")
    with pytest.raises(NotOne, match="no pod"):
        one_pod(pods, "y/web")
