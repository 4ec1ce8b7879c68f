"""CDI devices in real containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, Place, refused
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

KIND = "vendor.example/thing"
IDS = [cri.IDMapping(host_id=300_000, container_id=0, length=65_536)]
NAMESPACES = cri.NamespaceOption(
    pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.POD, uids=IDS, gids=IDS)
)


@pytest.fixture(scope="module")
def settings(place: Place) -> str:
    specs(place).mkdir()
    return f'[cdi]\nspec_dirs = ["{specs(place)}"]\n[runtimes.runc]\npath = "/usr/sbin/runc"\n'


def specs(place: Place) -> Path:
    return place.directory / "cdi"


def describe(node: Node, **devices: dict[str, Any]) -> None:
    """Write the spec file with these devices and their edits."""
    listed = [{"name": name, "containerEdits": edits} for name, edits in devices.items()]
    document = {"cdiVersion": "0.8.0", "kind": KIND, "devices": listed}
    (specs(node.place) / "thing.json").write_text(json.dumps(document))


def asked(*names: str) -> list[cri.CDIDevice]:
    return [cri.CDIDevice(name=f"{KIND}={name}") for name in names]


def test_nodes_mounts_variables_and_groups(node: Node, tmp_path: Path) -> None:
    (tmp_path / "library").write_text("driver\n")
    describe(
        node,
        zero={
            "env": ["THING=zero"],
            "deviceNodes": [
                {"path": "/dev/things/zero", "hostPath": "/dev/zero", "fileMode": 0o604,
                 "uid": 3, "gid": 4},
            ],
            "additionalGids": [77],
        },
        fuse={
            "deviceNodes": [{"path": "/dev/fuse", "permissions": "r"}],
            "mounts": [
                {"hostPath": str(tmp_path / "library"), "containerPath": "/usr/lib/driver.so",
                 "options": ["ro", "nosuid", "nodev", "bind"]},
            ],
        },
    )  # fmt: skip
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, CDI_devices=asked("zero", "fuse"))
        assert node.shell(container, "stat -c '%F %t %T %a %u %g' /dev/things/zero") == (
            "character special file 1 5 604 3 4"
        )
        assert (
            node.shell(container, "head -c 3 /dev/things/zero | od -An -tx1").split() == ["00"] * 3
        )
        # The cgroup allows what the file says: reading.
        node.shell(container, "exec 3</dev/fuse")
        writing = node.exec(container, "sh", "-c", "exec 3>/dev/fuse")
        assert b"not permitted" in writing.stderr
        assert node.shell(container, "cat /usr/lib/driver.so; echo $THING").split() == [
            "driver", "zero",
        ]  # fmt: skip
        assert (
            b"Read-only" in node.exec(container, "sh", "-c", "echo x > /usr/lib/driver.so").stderr
        )
        assert "77" in node.shell(container, "id -G").split()
        assert 77 in node.status(container).user.linux.supplemental_groups
        # Only what is asked for; the plain container has none of it.
        plain = node.run(sandbox, *SLEEP, name="plain")
        assert node.exec(plain, "ls", "/dev/fuse").exit_code != 0
        node.shell(plain, "test -z $THING")
        annotated = node.run(sandbox, *SLEEP, name="annotated",
                             annotations={"cdi.k8s.io/plugin_thing": f"{KIND}=zero"})  # fmt: skip
        assert node.shell(annotated, "echo $THING") == "zero"


def test_in_a_user_namespace_and_as_a_user(node: Node, tmp_path: Path) -> None:
    (tmp_path / "library").write_text("driver\n")
    describe(
        node,
        zero={
            "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/zero"}],
            "mounts": [{"hostPath": str(tmp_path / "library"), "containerPath": "/lib/driver"}],
        },
    )
    security = {"namespace_options": NAMESPACES, "run_as_user": cri.Int64Value(value=1000)}
    with node.pod(namespaces=NAMESPACES) as sandbox:
        container = node.run(sandbox, *SLEEP, CDI_devices=asked("zero"), security=security)
        assert node.shell(container, "stat -c %u /dev/thing /lib/driver").split() == ["1000", "0"]
        assert node.shell(container, "head -c 1 /dev/thing | wc -c") == "1"


def test_a_hook_changes_the_container_before_it_runs(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(
        '#!/bin/sh\ncat > $OUT/state.json\necho "$@" > $OUT/arguments\n'
        'bundle=$(sed \'s/.*"bundle": "\\([^"]*\\)".*/\\1/\' $OUT/state.json)\n'
        "echo from the hook > $bundle/rootfs/etc/hooked\n"
    )
    script.chmod(0o755)
    environment = [f"OUT={tmp_path}", "PATH=/usr/bin:/bin"]
    hook = {"hookName": "createContainer", "path": str(script), "args": ["hook", "a", "b c"],
            "env": environment, "timeout": 20}  # fmt: skip
    describe(node, hooked={"hooks": [hook]})
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, CDI_devices=asked("hooked"),
                             security={"readonly_rootfs": True})  # fmt: skip
        assert node.shell(container, "cat /etc/hooked") == "from the hook"
        assert (tmp_path / "arguments").read_text() == "a b c\n"
        state = json.loads((tmp_path / "state.json").read_text())
        assert (state["id"], state["status"], state["ociVersion"]) == (
            container,
            "creating",
            "1.2.0",
        )
        # Nothing of the hook is left, neither a process nor a descriptor.
        names = node.shell(container, "cat /proc/[0-9]*/comm").split()
        assert sorted(names) == ["cat", "sh", "sleep"]
        assert node.shell(container, "ls /proc/1/fd").split() == ["0", "1", "2"]


def test_an_oci_runtime_runs_hooks_of_other_kinds(node: Node, tmp_path: Path) -> None:
    (tmp_path / "library").write_text("driver\n")
    kinds = ("createRuntime", "createContainer", "poststart", "poststop")
    hooks = [
        {"hookName": kind, "path": "/bin/sh", "args": ["sh", "-c", f"cat > {tmp_path}/{kind}"]}
        for kind in kinds
    ]
    describe(
        node,
        all={
            "env": ["THING=all"],
            "hooks": hooks,
            "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/fuse", "permissions": "r"}],
            "mounts": [{"hostPath": str(tmp_path / "library"), "containerPath": "/lib/driver",
                        "options": ["ro", "bind"]}],
        },
    )  # fmt: skip
    request = cri.RunPodSandboxRequest(config=node.pod_config(), runtime_handler="runc")
    sandbox = node.runtime.RunPodSandbox(request, timeout=patient(60)).pod_sandbox_id
    try:
        container = node.run(sandbox, *SLEEP, CDI_devices=asked("all"))
        assert node.shell(container, "cat /lib/driver; echo $THING").split() == ["driver", "all"]
        node.shell(container, "exec 3</dev/thing")
        assert b"not permitted" in node.exec(container, "sh", "-c", "exec 3>/dev/thing").stderr
        node.stop(container)
        node.remove(container)
    finally:
        node.remove_pod(sandbox)
    for kind in kinds:
        assert json.loads((tmp_path / kind).read_text())["id"] == container, kind


def test_hooks_that_fail_or_hang(node: Node) -> None:
    def hook(script: str, **more: Any) -> dict[str, Any]:
        return {"hooks": [{"hookName": "createContainer", "path": "/bin/sh",
                           "args": ["sh", "-c", script], **more}]}  # fmt: skip

    describe(
        node,
        failing=hook("echo the driver is missing >&2; exit 3"),
        hanging=hook("exec /bin/sleep 100", timeout=1),
        missing={"hooks": [{"hookName": "createContainer", "path": "/missing"}]},
    )
    with node.pod() as sandbox:
        for name, words in (
            ("failing", ("ended with 3", "the driver is missing")),
            ("hanging", ("longer than 1 s",)),
            ("missing", ("/missing", "No such file")),
        ):
            config = node.container_config(*SLEEP, name=name, CDI_devices=asked(name))
            container = node.create(sandbox, config)
            details = refused(lambda c=container: node.start(c)).details() or ""  # type: ignore[misc]
            assert all(word in details for word in words), details
            assert node.status(container).exit_code == 128


def test_what_cannot_be_given(node: Node) -> None:
    describe(
        node,
        good={"env": ["X=1"]},
        gone={"deviceNodes": [{"path": "/dev/missing"}]},
        late={"hooks": [{"hookName": "poststart", "path": "/bin/true"}]},
    )
    with node.pod() as sandbox:
        for name, words in (
            ("unknown", "is unknown"),
            ("gone", "/dev/missing"),
            ("late", "choose a runtime handler"),
        ):
            config = node.container_config(*SLEEP, CDI_devices=asked("good", name))
            details = refused(lambda c=config: node.create(sandbox, c)).details() or ""  # type: ignore[misc]
            assert words in details, details
    # A second file that names the device, and a broken one: no daemon has to be told.
    for other in ("other.json", "other.yaml"):
        (specs(node.place) / other).write_text((specs(node.place) / "thing.json").read_text())
        with node.pod() as sandbox:
            config = node.container_config(*SLEEP, CDI_devices=asked("good"))
            details = refused(lambda c=config: node.create(sandbox, c)).details() or ""  # type: ignore[misc]
            assert "more than one file" in details
        (specs(node.place) / other).unlink()
    with node.pod() as sandbox:
        node.create(sandbox, node.container_config(*SLEEP, CDI_devices=asked("good")))
