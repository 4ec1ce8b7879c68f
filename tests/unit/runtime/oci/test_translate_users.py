"""User namespaces in the translation of CRI containers to OCI configurations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.hostfacts import tmpfs_maps_ids
from runtime.oci.request import BindSource, TranslationError, TranslationRequest
from runtime.oci.translate import translate
from tests.unit.runtime.oci.test_translate import HOST, NAMESPACES, mounts_of, request

IDS = [cri.IDMapping(host_id=100_000, container_id=0, length=65536)]
OCI_IDS = [{"containerID": 0, "hostID": 100_000, "size": 65536}]


def user_namespace(*ids: cri.IDMapping) -> cri.NamespaceOption:
    asked = cri.UserNamespace(mode=cri.POD, uids=ids or IDS, gids=ids or IDS)
    return cri.NamespaceOption(pid=cri.CONTAINER, userns_options=asked)


def in_user_namespace(**fields: Any) -> TranslationRequest:
    sandbox = cri.PodSandboxConfig()
    sandbox.linux.security_context.namespace_options.CopyFrom(user_namespace())
    return request(sandbox=sandbox, namespaces={**NAMESPACES, "user": "/run/ns/user"}, **fields)


def test_a_user_namespace_is_the_pods_and_its_mounts_are_mapped() -> None:
    volumes = [
        cri.Mount(container_path="/mapped", host_path="/v", uidMappings=IDS, gidMappings=IDS),
        cri.Mount(container_path="/plain", host_path="/v"),
    ]
    config = translate(in_user_namespace(mounts=volumes, sources={"/v": BindSource("/v")}))
    assert {"type": "user", "path": "/run/ns/user"} in config["linux"]["namespaces"]
    assert config["linux"]["uidMappings"] == config["linux"]["gidMappings"] == OCI_IDS
    mounts = mounts_of(config)
    for path in ("/mapped", "/etc/hostname", "/etc/resolv.conf", "/dev/shm"):
        assert mounts[path]["uidMappings"] == mounts[path]["gidMappings"] == OCI_IDS
    for path in ("/plain", "/proc", "/sys", "/dev"):
        assert "uidMappings" not in mounts[path]
    assert "uidMappings" not in translate(request())["linux"]


@pytest.mark.parametrize(
    ("release", "maps"),
    [("6.1.0-41-cloud-amd64", False), ("6.2.16", False), ("6.3.0", True), ("6.18.5", True),
     ("10.0-rc1", True), ("5.14.0-362.el9", False), ("odd", False)],
)  # fmt: skip
def test_files_of_the_pod_are_on_a_tmpfs_which_old_kernels_do_not_map(
    release: str, maps: bool
) -> None:
    host = replace(HOST, tmpfs_maps_ids=tmpfs_maps_ids(release))
    volumes = [cri.Mount(container_path="/v", host_path="/v", uidMappings=IDS, gidMappings=IDS)]
    asked = in_user_namespace(
        host=host, mounts=volumes, sources={"/v": BindSource("/v")}, volumes={"/image": "/own"}
    )
    mounts = mounts_of(translate(asked))
    for path in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm"):
        assert ("uidMappings" in mounts[path]) is maps
    for path in ("/v", "/image"):
        assert mounts[path]["uidMappings"] == OCI_IDS


def test_a_user_namespace_cannot_be_left_or_changed_by_a_container() -> None:
    other = cri.IDMapping(host_id=5, container_id=0, length=1)
    node = cri.NamespaceOption(pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.NODE))
    for options in (user_namespace(other), node):
        with pytest.raises(TranslationError, match="differ"):
            translate(in_user_namespace(security={"namespace_options": options}))
    with pytest.raises(TranslationError, match="privileged"):
        translate(in_user_namespace(security={"privileged": True}))
    mount = cri.Mount(container_path="/v", host_path="/v", uidMappings=[other])
    for make in (in_user_namespace, request):
        with pytest.raises(TranslationError, match="must be those of the pod"):
            translate(make(mounts=[mount], sources={"/v": BindSource("/v")}))
