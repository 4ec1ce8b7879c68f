from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.security import ConfigError, ImageUser, container_security
from kubeletpy_proto import cri_pb2

from ..api.pods import make_pod, with_container

NODE = NodeFacts(name="node", root_dir=Path("/root-dir"))
Profile = cri_pb2.SecurityProfile


def context_of(
    of_pod: dict[str, Any] | None = None,
    of_container: dict[str, Any] | None = None,
    user: ImageUser | None = None,
    node: NodeFacts = NODE,
) -> cri_pb2.LinuxContainerSecurityContext:
    pod = make_pod(
        securityContext=of_pod or {}, **with_container(securityContext=of_container or {})
    )
    return container_security(pod, pod.spec.containers[0], node, user or ImageUser(uid=0))


@pytest.mark.parametrize(
    ("of_pod", "of_container", "image", "uid", "username"),
    [
        ({}, {}, ImageUser(uid=0), 0, ""),
        ({}, {}, ImageUser(uid=33), 33, ""),
        ({}, {}, ImageUser(name="www"), None, "www"),
        ({"runAsUser": 7}, {}, ImageUser(uid=33), 7, ""),
        ({"runAsUser": 7}, {"runAsUser": 8}, ImageUser(name="www"), 8, ""),
        ({"runAsUser": 7}, {"runAsUser": 0}, ImageUser(uid=33), 0, ""),
    ],
)
def test_user(
    of_pod: dict[str, Any],
    of_container: dict[str, Any],
    image: ImageUser,
    uid: int | None,
    username: str,
) -> None:
    context = context_of(of_pod, of_container, image)
    assert context.HasField("run_as_user") is (uid is not None)
    assert context.run_as_user.value == (uid or 0)
    assert context.run_as_username == username


@pytest.mark.parametrize(
    ("of_pod", "of_container", "image", "reason"),
    [
        ({"runAsNonRoot": True}, {}, ImageUser(uid=0), "image will run as root"),
        ({"runAsNonRoot": True}, {}, ImageUser(name="www"), r"non-numeric user \(www\)"),
        ({"runAsNonRoot": True}, {"runAsUser": 0}, ImageUser(uid=1), "breaks non-root policy"),
        ({"runAsNonRoot": False}, {"runAsNonRoot": True}, ImageUser(uid=0), "as root"),
        (
            {"runAsNonRoot": True},
            {},
            ImageUser(),
            r"as root \(pod: \"web_default\(11111111-2222\)\", "
            r"container: main\)",
        ),
        ({"runAsNonRoot": True}, {}, ImageUser(uid=2**31), r"invalid user id \(2147483648\)"),
    ],
)
def test_non_root_does_not_hold(
    of_pod: dict[str, Any], of_container: dict[str, Any], image: ImageUser, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        context_of(of_pod, of_container, image)


@pytest.mark.parametrize(
    ("of_pod", "of_container", "image"),
    [
        ({"runAsNonRoot": True}, {}, ImageUser(uid=33)),
        ({"runAsNonRoot": True}, {"runAsUser": 5}, ImageUser(uid=0)),
        ({"runAsNonRoot": True}, {"runAsNonRoot": False}, ImageUser(uid=0)),
    ],
)
def test_non_root_holds(
    of_pod: dict[str, Any], of_container: dict[str, Any], image: ImageUser
) -> None:
    context_of(of_pod, of_container, image)


@pytest.mark.parametrize(
    ("of_pod", "of_container", "seccomp_default", "kind", "reference"),
    [
        ({}, {}, False, Profile.Unconfined, ""),
        ({}, {}, True, Profile.RuntimeDefault, ""),
        ({"seccompProfile": {"type": "RuntimeDefault"}}, {}, False, Profile.RuntimeDefault, ""),
        ({"seccompProfile": {"type": "RuntimeDefault"}}, {"seccompProfile": {"type": "Unconfined"}},
         True, Profile.Unconfined, ""),
        ({}, {"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}, False,
         Profile.Localhost, "/root-dir/seccomp/a.json"),
    ],
)  # fmt: skip
def test_seccomp(
    of_pod: dict[str, Any],
    of_container: dict[str, Any],
    seccomp_default: bool,
    kind: int,
    reference: str,
) -> None:
    node = NodeFacts(name="n", root_dir=Path("/root-dir"), seccomp_default=seccomp_default)
    context = context_of(of_pod, of_container, node=node)
    assert context.seccomp.profile_type == kind
    assert context.seccomp.localhost_ref == reference


def test_an_empty_localhost_profile_is_no_permission() -> None:
    with pytest.raises(ConfigError, match="localhostProfile"):
        context_of(of_container={"seccompProfile": {"type": "Localhost", "localhostProfile": ""}})


def test_privileges() -> None:
    context = context_of(
        {"fsGroup": 5, "supplementalGroups": [6]},
        {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "appArmorProfile": {"type": "Localhost", "localhostProfile": "p"},
        },
    )
    assert context.no_new_privs
    assert context.readonly_rootfs
    assert not context.privileged
    assert list(context.capabilities.add_capabilities) == ["NET_ADMIN"]
    assert list(context.capabilities.drop_capabilities) == ["ALL"]
    assert list(context.supplemental_groups) == [5, 6]
    assert context.apparmor_profile == "localhost/p"
    assert "/proc/kcore" in context.masked_paths
    assert "/proc/sys" in context.readonly_paths
    assert not context_of().no_new_privs
    assert context_of(of_container={"privileged": True}).privileged


def test_an_unmasked_proc() -> None:
    context = context_of(of_container={"procMount": "Unmasked"})
    assert list(context.masked_paths) == []
    assert list(context.readonly_paths) == []
    assert context_of(of_container={"procMount": "Default"}).masked_paths


def test_user_of_an_image() -> None:
    assert ImageUser.of(cri_pb2.Image(uid=cri_pb2.Int64Value(value=0))) == ImageUser(uid=0)
    assert ImageUser.of(cri_pb2.Image(username="www")) == ImageUser(name="www")
    assert ImageUser.of(cri_pb2.Image()) == ImageUser(uid=0)
