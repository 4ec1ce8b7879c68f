"""The translation of CRI containers to OCI configurations, in tables."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.images.config import ImageConfig
from runtime.oci.defaults import DEFAULT_CAPABILITIES
from runtime.oci.plan import plan_file_system
from runtime.oci.request import (
    BindSource,
    HostDevice,
    HostFacts,
    ImageVolume,
    PodPaths,
    TranslationError,
    TranslationRequest,
)
from runtime.oci.translate import translate
from runtime.oci.translate_limits import translate_resources
from runtime.oci.translate_process import command_line
from runtime.oci.users import ResolvedUser
from runtime.shim.messages import Rootfs

EVERY_CAPABILITY = (*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_TIME")
HOST = HostFacts(hostname="node1", cgroup_version=2, capabilities=EVERY_CAPABILITY)
NAMESPACES = {name: f"/run/ns/{name}" for name in ("network", "ipc", "uts")}
OWN_PID = cri.NamespaceOption(pid=cri.CONTAINER)
Profile = cri.SecurityProfile


def request(
    *,
    security: dict[str, Any] | None = None,
    resources: dict[str, Any] | None = None,
    image: ImageConfig | None = None,
    host: HostFacts = HOST,
    sandbox: cri.PodSandboxConfig | None = None,
    namespaces: dict[str, str] | None = None,
    sources: dict[str, BindSource] | None = None,
    devices: tuple[HostDevice, ...] = (),
    volumes: dict[str, str] | None = None,
    image_volumes: dict[int, ImageVolume] | None = None,
    target: str = "",
    user: ResolvedUser | None = None,
    **fields: Any,
) -> TranslationRequest:
    linux = cri.LinuxContainerConfig(
        security_context=cri.LinuxContainerSecurityContext(
            **{"namespace_options": OWN_PID, **(security or {})}
        )
    )
    if resources is not None:
        linux.resources.CopyFrom(cri.LinuxContainerResources(**resources))
    return TranslationRequest(
        container_id="c1",
        sandbox_id="s1",
        sandbox=sandbox or cri.PodSandboxConfig(hostname="web"),
        container=cri.ContainerConfig(linux=linux, **{"command": ["run"], **fields}),
        image=image or ImageConfig(),
        user=user or ResolvedUser(0, 0, (0,)),
        pod_paths=PodPaths("/p/hostname", "/p/resolv.conf", "/p/hosts", "/p/shm"),
        namespaces=NAMESPACES if namespaces is None else namespaces,
        target_pid_namespace=target,
        volumes=volumes or {},
        sources=sources or {},
        image_volumes=image_volumes or {},
        devices=devices,
        cgroup="/pods/p/c1",
        host=host,
    )


def mounts_of(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in config["mounts"]}


@pytest.mark.parametrize(
    ("command", "args", "entrypoint", "cmd", "expected"),
    [
        ([], [], ["e"], ["c"], ["e", "c"]),
        ([], ["a"], ["e"], ["c"], ["e", "a"]),
        (["x"], [], ["e"], ["c"], ["x"]),
        (["x"], ["a"], ["e"], ["c"], ["x", "a"]),
        ([], [], [], ["c"], ["c"]),
        ([], [], [""], ["c"], ["c"]),
        ([], ["a"], [], [], ["a"]),
    ],
)
def test_command_line(
    command: list[str],
    args: list[str],
    entrypoint: list[str],
    cmd: list[str],
    expected: list[str],
) -> None:
    image = ImageConfig(entrypoint=tuple(entrypoint), cmd=tuple(cmd))
    assert command_line(command, args, image) == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": []}, "no command"),
        ({"command": [""]}, "no command"),
        ({"command": ["a\0b"]}, "NUL"),
        ({"envs": [cri.KeyValue(key="", value=b"x")]}, "empty"),
        ({"envs": [cri.KeyValue(key="a=b", value=b"x")]}, "a=b"),
        ({"envs": [cri.KeyValue(key="a", value=b"x\0")]}, "NUL"),
        ({"working_dir": "here"}, "not absolute"),
        ({"security": {"capabilities": cri.Capability(add_capabilities=["FLY"])}}, "CAP_FLY"),
        ({"security": {"capabilities": cri.Capability(add_capabilities=["SYS_BOOT"])}}, "SYS_BOOT"),
        ({"security": {"seccomp": Profile(profile_type=Profile.Localhost)}}, "absolute path"),
        (
            {"security": {"seccomp": Profile(profile_type=Profile.Localhost, localhost_ref="p")}},
            "'p'.*absolute path",
        ),
        ({"security": {"seccomp_profile_path": "localhost/p"}}, "localhost/p"),
        ({"security": {"seccomp_profile_path": "p"}}, "none of"),
        ({"security": {"apparmor": Profile(profile_type=Profile.RuntimeDefault)}}, "apparmor"),
        ({"security": {"apparmor_profile": "runtime/default"}}, "apparmor_profile"),
        (
            {"security": {"namespace_options": cri.NamespaceOption(
                pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.POD))}},
            "userns_options",
        ),
        ({"security": {"namespace_options": cri.NamespaceOption(pid=cri.TARGET)}}, "TARGET"),
        ({"security": {"masked_paths": ["/"]}}, "masked_paths"),
        ({"resources": {"oom_score_adj": 1001}}, "oom_score_adj"),
        ({"resources": {"cpu_shares": -1}}, "cpu_shares"),
        ({"windows": cri.WindowsContainerConfig()}, "windows"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(TranslationError, match=words):
        translate(request(**fields))


def test_environment_is_merged_and_completed() -> None:
    process = translate(
        request(
            image=ImageConfig(env=("A=image", "B=image", "PATH=/image")),
            envs=[cri.KeyValue(key="B", value=b"request"), cri.KeyValue(key="C", value=b"\xff")],
            user=ResolvedUser(5, 5, (5,), "/home/five"),
            tty=True,
        )
    )["process"]
    assert dict(entry.split("=", 1) for entry in process["env"]) == {
        "PATH": "/image",
        "HOSTNAME": "web",
        "TERM": "xterm",
        "A": "image",
        "B": "request",
        "C": "\udcff",
        "HOME": "/home/five",
    }
    assert process["terminal"] is True


def test_environment_defaults() -> None:
    sandbox = cri.PodSandboxConfig()
    env = dict(e.split("=", 1) for e in translate(request(sandbox=sandbox))["process"]["env"])
    assert env["HOSTNAME"] == "node1"
    assert env["PATH"].startswith("/usr/local/sbin:")
    assert env["HOME"] == "/"
    assert "TERM" not in env


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], set(DEFAULT_CAPABILITIES)),
        (["NET_ADMIN"], [], {*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}),
        (["cap_net_admin"], ["ALL"], {"CAP_NET_ADMIN"}),
        ([], ["ALL"], set()),
        (["ALL"], ["SYS_ADMIN"], set(EVERY_CAPABILITY) - {"CAP_SYS_ADMIN"}),
        (["ALL"], ["ALL"], set()),
        ([], ["KILL", "CHOWN"], set(DEFAULT_CAPABILITIES) - {"CAP_KILL", "CAP_CHOWN"}),
    ],
)
def test_capabilities(add: list[str], drop: list[str], expected: set[str]) -> None:
    asked = cri.Capability(add_capabilities=add, drop_capabilities=drop)
    sets = translate(request(security={"capabilities": asked}))["process"]["capabilities"]
    found = {kind: set(names) for kind, names in sets.items()}
    assert found == dict.fromkeys(("bounding", "effective", "permitted"), expected)


def test_ambient_capabilities_are_the_only_inheritable_ones() -> None:
    asked = cri.Capability(drop_capabilities=["ALL"], add_ambient_capabilities=["NET_ADMIN"])
    sets = translate(request(security={"capabilities": asked}))["process"]["capabilities"]
    assert all(names == ["CAP_NET_ADMIN"] for names in sets.values())
    assert set(sets) == {"bounding", "effective", "permitted", "ambient", "inheritable"}


def test_a_capability_of_the_defaults_that_the_runtime_lacks_is_left_out() -> None:
    host = HostFacts(capabilities=("CAP_CHOWN",))
    sets = translate(request(host=host))["process"]["capabilities"]
    assert sets["effective"] == ["CAP_CHOWN"]


def test_default_mounts_in_order() -> None:
    config = translate(request())
    assert [mount["destination"] for mount in config["mounts"]] == [
        "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup",
        "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm",
    ]  # fmt: skip
    assert "ro" in mounts_of(config)["/sys"]["options"]
    assert "ro" in mounts_of(config)["/sys/fs/cgroup"]["options"]


def test_a_mount_of_the_client_replaces_a_default_and_deeper_ones_come_later() -> None:
    mounts = [
        cri.Mount(container_path="/data/deep/er", host_path="/h/2"),
        cri.Mount(container_path="/etc/resolv.conf", host_path="/h/r", readonly=True),
        cri.Mount(container_path="/data", host_path="/h/1"),
        cri.Mount(container_path="/dev/shm", host_path="/h/shm"),
    ]
    sources = {mount.host_path: BindSource(mount.host_path) for mount in mounts}
    config = translate(request(mounts=mounts, sources=sources))
    order = [mount["destination"] for mount in config["mounts"]]
    assert order.index("/data") < order.index("/data/deep/er")
    assert len(order) == len(set(order))
    found = mounts_of(config)
    assert found["/etc/resolv.conf"]["source"] == "/h/r"
    assert found["/etc/resolv.conf"]["options"] == ["rbind", "rprivate", "ro"]
    assert found["/dev/shm"]["source"] == "/h/shm"


def test_a_dev_of_the_client_drops_what_would_lie_in_it() -> None:
    mounts = [cri.Mount(container_path="/dev", host_path="/dev")]
    config = translate(request(mounts=mounts, sources={"/dev": BindSource("/dev")}))
    assert "/dev/pts" not in mounts_of(config)
    assert mounts_of(config)["/dev"]["type"] == "bind"


@pytest.mark.parametrize(
    ("fields", "source", "expected"),
    [
        ({}, BindSource("/h"), ["rbind", "rprivate"]),
        ({"readonly": True}, BindSource("/h"), ["rbind", "rprivate", "ro"]),
        (
            {"readonly": True, "recursive_read_only": True},
            BindSource("/h"),
            ["rbind", "rprivate", "ro", "rro"],
        ),
        (
            {"propagation": cri.PROPAGATION_HOST_TO_CONTAINER},
            BindSource("/h", slave=True),
            ["rbind", "rslave"],
        ),
        (
            {"propagation": cri.PROPAGATION_BIDIRECTIONAL},
            BindSource("/h", shared=True),
            ["rbind", "rshared"],
        ),
    ],
)
def test_mount_options(fields: dict[str, Any], source: BindSource, expected: list[str]) -> None:
    mounts = [cri.Mount(container_path="/c", host_path="/h", **fields)]
    config = translate(request(mounts=mounts, sources={"/h": source}))
    assert mounts_of(config)["/c"]["options"] == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"container_path": "/"}, "root"),
        ({"container_path": ""}, "empty"),
        ({"container_path": "/a\0b"}, "NUL"),
        ({"container_path": "/x/../.."}, "root"),
        ({"container_path": "/proc"}, "/proc"),
        ({"host_path": ""}, "host_path is empty"),
        ({"propagation": cri.PROPAGATION_HOST_TO_CONTAINER}, "shared or slave"),
        ({"propagation": cri.PROPAGATION_BIDIRECTIONAL}, "shared mount"),
        ({"recursive_read_only": True}, "needs readonly"),
        ({"image": cri.ImageSpec(image="i")}, "was not looked at"),
        ({"image": cri.ImageSpec(image="i"), "container_path": "/proc"}, "only the host's /proc"),
        ({"uidMappings": [cri.IDMapping(length=1)]}, "uidMappings"),
        ({"mount_options": ["x"]}, "mount_options"),
    ],
)
def test_mounts_that_cannot_be(fields: dict[str, Any], words: str) -> None:
    mount = cri.Mount(**{"container_path": "/c", "host_path": "/h", **fields})
    with pytest.raises(TranslationError, match=words):
        translate(request(mounts=[mount], sources={"/h": BindSource("/h")}))


def test_two_mounts_on_one_path_are_refused() -> None:
    mounts = [cri.Mount(container_path=path, host_path="/h") for path in ("/c", "/c/")]
    with pytest.raises(TranslationError, match="more than one mount on /c"):
        translate(request(mounts=mounts, sources={"/h": BindSource("/h")}))


def test_a_label_means_nothing_without_selinux_and_is_refused_with_it() -> None:
    security = {"selinux_options": cri.SELinuxOption(level="s0:c0,c1")}
    translate(request(security=security))
    selinux = HostFacts(capabilities=EVERY_CAPABILITY, selinux=True)
    with pytest.raises(TranslationError, match="selinux_options: labels are not supported"):
        translate(request(security=security, host=selinux))


def test_a_relabel_flag_means_nothing_without_selinux_and_is_refused_with_it() -> None:
    mounts = [cri.Mount(container_path="/c", host_path="/h", selinux_relabel=True)]
    sources = {"/h": BindSource("/h")}
    translate(request(mounts=mounts, sources=sources))
    selinux = HostFacts(capabilities=EVERY_CAPABILITY, selinux=True)
    with pytest.raises(TranslationError, match="selinux_relabel"):
        translate(request(mounts=mounts, sources=sources, host=selinux))


@pytest.mark.parametrize("path", ["/data", "data", "../../data", "//data/"])
def test_image_volumes_stay_inside(path: str) -> None:
    config = translate(request(volumes={path: "/volumes/c1/0"}))
    assert mounts_of(config)["/data"]["source"] == "/volumes/c1/0"


def test_a_mounted_image_becomes_layers_for_the_executor() -> None:
    mount = cri.Mount(
        container_path="/vol", readonly=True, image=cri.ImageSpec(image="i"),
        mount_options=["noexec"],
    )  # fmt: skip
    volume = ImageVolume("/snapshots", ("2/fs", "1/fs", "3/lower"), "data")
    asked = request(mounts=[mount], image_volumes={0: volume})
    config = translate(asked)
    assert mounts_of(config)["/vol"] == {
        "destination": "/vol",
        "type": "image",
        "source": "/snapshots",
        "options": ["ro", "noexec"],
        "layers": ["2/fs", "1/fs", "3/lower"],
        "subPath": "data",
    }
    steps = plan_file_system(config, Rootfs(("1/fs",), "2/fs", "2/work", "/snapshots"), "/target")
    described = [step.describe() for step in steps]
    taken = described.index("take data of an image of 2 layers")
    mounted = described.index("mount the overlay of 1 layers on /target")
    assert mounted < taken < described.index("bind an image on /vol")


def test_namespaces() -> None:
    namespaces = translate(request())["linux"]["namespaces"]
    assert namespaces == [
        {"type": "mount"},
        {"type": "network", "path": "/run/ns/network"},
        {"type": "ipc", "path": "/run/ns/ipc"},
        {"type": "uts", "path": "/run/ns/uts"},
        {"type": "pid"},
        {"type": "cgroup"},
    ]


@pytest.mark.parametrize(("mode", "expected"), [(cri.CONTAINER, [{"type": "pid"}]), (cri.NODE, [])])
def test_pid_mode_unset_in_a_pod_without_a_shared_one(
    mode: cri.NamespaceMode.ValueType, expected: list[dict[str, str]]
) -> None:
    options = cri.NamespaceOption(pid=mode)
    sandbox = cri.PodSandboxConfig(
        linux=cri.LinuxPodSandboxConfig(
            security_context=cri.LinuxSandboxSecurityContext(namespace_options=options)
        )
    )
    asked = request(
        sandbox=sandbox, security={"namespace_options": cri.NamespaceOption()}, namespaces={}
    )
    namespaces = translate(asked)["linux"]["namespaces"]
    assert [item for item in namespaces if item["type"] == "pid"] == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (cri.CONTAINER, [{"type": "pid"}]),
        (cri.NODE, []),
        (cri.POD, [{"type": "pid", "path": "/run/ns/pid"}]),
        (cri.TARGET, [{"type": "pid", "path": "/proc/7/ns/pid"}]),
    ],
)
def test_pid_modes(mode: cri.NamespaceMode.ValueType, expected: list[dict[str, str]]) -> None:
    security = {"namespace_options": cri.NamespaceOption(pid=mode)}
    asked = request(security=security, namespaces={"pid": "/run/ns/pid"}, target="/proc/7/ns/pid")
    namespaces = translate(asked)["linux"]["namespaces"]
    assert [item for item in namespaces if item["type"] == "pid"] == expected


def test_host_namespaces_are_left_out() -> None:
    types = [item["type"] for item in translate(request(namespaces={}))["linux"]["namespaces"]]
    assert types == ["mount", "pid", "cgroup"]


def test_privileged() -> None:
    asked = request(
        security={
            "privileged": True,
            "masked_paths": ["/proc/kcore"],
            "readonly_paths": ["/proc/sys"],
            "seccomp": Profile(profile_type=Profile.RuntimeDefault),
        },
        devices=(HostDevice("/dev/kvm", "c", 10, 232),),
    )
    config = translate(asked)
    linux = config["linux"]
    assert "maskedPaths" not in linux
    assert "readonlyPaths" not in linux
    assert "seccomp" not in linux
    assert set(config["process"]["capabilities"]["effective"]) == set(EVERY_CAPABILITY)
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert [device["path"] for device in linux["devices"]] == ["/dev/kvm"]
    assert "rw" in mounts_of(config)["/sys"]["options"]
    assert {"type": "cgroup"} not in linux["namespaces"]


def test_devices_and_their_rules() -> None:
    device = HostDevice("/dev/x", "b", 8, 1, mode=0o640, uid=1, gid=2, access="r")
    linux = translate(request(devices=(device,)))["linux"]
    assert linux["devices"] == [
        {"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o640, "uid": 1,
         "gid": 2}
    ]  # fmt: skip
    rules = linux["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[-1] == {"allow": True, "type": "b", "major": 8, "minor": 1, "access": "r"}


def test_masked_and_read_only_paths_are_exactly_those_asked_for() -> None:
    linux = translate(request(security={"masked_paths": ["/proc/kcore/"]}))["linux"]
    assert linux["maskedPaths"] == ["/proc/kcore"]
    assert linux["readonlyPaths"] == []


@pytest.mark.parametrize(
    ("left_out", "asked", "expected"),
    [
        ((), [], []),
        (("network", "uts"), [], ["/proc/sys"]),
        (("ipc",), ["/proc/bus"], ["/proc/bus", "/proc/sys"]),
        (("ipc",), ["/proc/sys"], ["/proc/sys"]),
        (("ipc",), ["/proc"], ["/proc"]),
    ],
)
def test_sysctls_of_the_host_are_never_writable(
    left_out: tuple[str, ...], asked: list[str], expected: list[str]
) -> None:
    namespaces = {name: path for name, path in NAMESPACES.items() if name not in left_out}
    config = translate(request(namespaces=namespaces, security={"readonly_paths": asked}))
    assert config["linux"]["readonlyPaths"] == expected


@pytest.mark.parametrize(
    ("asked", "version", "expected"),
    [
        ({}, 2, {}),
        ({"cpu_shares": 2, "cpu_quota": -1}, 2, {"cpu": {"shares": 2, "quota": -1}}),
        (
            {"cpuset_cpus": "0-1", "cpuset_mems": "0", "cpu_period": 1000},
            2,
            {"cpu": {"period": 1000, "cpus": "0-1", "mems": "0"}},
        ),
        ({"memory_limit_in_bytes": 64}, 1, {"memory": {"limit": 64, "swap": 64}}),
        (
            {"memory_limit_in_bytes": 64, "memory_swap_limit_in_bytes": 128},
            2,
            {"memory": {"limit": 64, "swap": 128}},
        ),
        (
            {"hugepage_limits": [cri.HugepageLimit(page_size="2MB", limit=4)]},
            2,
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
        ),
        ({"unified": {"pids.max": "5"}}, 2, {"unified": {"pids.max": "5"}}),
    ],
)
def test_resources(asked: dict[str, Any], version: int, expected: dict[str, Any]) -> None:
    assert translate_resources(cri.LinuxContainerResources(**asked), version) == expected


def test_unified_resources_need_cgroup_v2() -> None:
    asked = cri.LinuxContainerResources(unified={"pids.max": "5"})
    with pytest.raises(TranslationError, match=r"pids\.max"):
        translate_resources(asked, 1)


@pytest.mark.parametrize(
    ("asked", "lowest", "expected"), [(-900, -1000, -900), (-900, 0, 0), (500, 0, 500)]
)
def test_the_oom_score_is_restricted_to_what_may_be_set(
    asked: int, lowest: int, expected: int
) -> None:
    host = HostFacts(capabilities=EVERY_CAPABILITY, lowest_oom_score_adj=lowest)
    process = translate(request(resources={"oom_score_adj": asked}, host=host))["process"]
    assert process["oomScoreAdj"] == expected


def test_annotations_of_the_pod_change_nothing() -> None:
    evil = {
        "io.kubernetes.cri.untrusted-workload": "false",
        "org.systemd.property.ExecStart": "'evil'",
        "run.oci.keep_original_groups": "1",
    }
    sandbox = cri.PodSandboxConfig(hostname="web", annotations=evil)
    assert translate(request(annotations=evil, sandbox=sandbox)) == translate(request())


def test_the_executor_understands_every_configuration() -> None:
    mounts = [cri.Mount(container_path="/c", host_path="/h", readonly=True)]
    config = translate(
        request(
            mounts=mounts,
            sources={"/h": BindSource("/h")},
            devices=(HostDevice("/dev/x", "c", 1, 11),),
            security={"masked_paths": ["/proc/kcore"], "readonly_rootfs": True},
        )
    )
    rootfs = Rootfs(("1/fs",), "2/fs", "2/work", "/base")
    plan = [step.describe() for step in plan_file_system(config, rootfs, "/bundle/rootfs")]
    for words in ("bind /h on /c", "mask /proc/kcore", "make the root read-only", "/dev/x"):
        assert any(words in step for step in plan), words
