"""Volumes and variables that need an API server, as containers see them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.volumes import mountinfo
from tests.root.kubeletpy.apiserver.cluster import Api, bound
from tests.root.kubeletpy.apiserver.conftest import (
    api,
    joined,
    machine_scope,
    node,
    place,
    run,
)
from tests.root.kubeletpy.engine.process import KubeletProcess, wait_for

__all__ = ["api", "joined", "machine_scope", "node", "place", "run"]
pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
NAMESPACE = "/api/v1/namespaces/default"
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"


def log_of(kubelet: KubeletProcess, api: Api, name: str, container: str = "a") -> str:
    pod = api.pod(name)
    assert pod is not None
    directory = kubelet.logs / f"default_{name}_{pod['metadata']['uid']}" / container
    path = directory / "0.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join(line.split(" ", 3)[3] for line in lines)


def volume_of(kubelet: KubeletProcess, api: Api, name: str, plugin: str, volume: str) -> Path:
    """The directory of a volume on the node."""
    pod = api.pod(name)
    assert pod is not None
    uid = str(pod["metadata"]["uid"])
    return kubelet.root / "pods" / uid / "volumes" / f"kubernetes.io~{plugin}" / volume


def events_of(kubelet: KubeletProcess, name: str) -> list[tuple[str, str]]:
    """Reasons and messages of the events of a pod."""
    return [
        (event["reason"], event["message"])
        for event in json.loads(kubelet.get("/events")[1])["items"]
        if event["involvedObject"].get("name") == name
    ]


def config_map(api: Api, name: str, **data: str) -> None:
    path = f"{NAMESPACE}/configmaps"
    found = {"metadata": {"name": name}, "data": data}
    if api.ask("PUT", f"{path}/{name}", found)[0] >= 300:
        api.must("POST", path, found)


def secret(api: Api, name: str, **data: str) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    api.must("POST", f"{NAMESPACE}/secrets", {"metadata": {"name": name}, "data": encoded})


def ended(api: Api, name: str) -> str:
    """Wait until a pod has ended, and return its phase."""
    done = ("Succeeded", "Failed")
    pod = api.wait(name, lambda pod: pod["status"].get("phase") in done, "end")
    return str(pod["status"]["phase"])


def test_all_kinds_in_one_pod(joined: KubeletProcess, api: Api, run: Run) -> None:
    config_map(api, "conf", key="from a config map", other="two")
    secret(api, "hidden", key="from a secret")
    script = """
        cat /conf/key /secret/deep/key /all/token.path/token /all/conf /info/labels; echo
        echo env $ONE $PREFIX_key $MISSING. $KUBERNETES_SERVICE_HOST $MINE
        stat -c '%n %a %u %g' -L /secret/deep/key /all/token.path/token /conf/key
        grep -E ' /(secret|conf|all) ' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1
        touch /conf/new /secret/new /all/new /secret/deep/key 2>&1 | grep -c 'Read-only'
    """
    container = run(
        "a",
        script,
        envFrom=[{"prefix": "PREFIX_", "secretRef": {"name": "hidden"}}],
        env=[
            {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "key"}}},
            {
                "name": "MISSING",
                "valueFrom": {"secretKeyRef": {"name": "none", "key": "key", "optional": True}},
            },
            {"name": "MINE", "value": "$(PREFIX_key)!"},
        ],
        volumeMounts=[
            {"name": "conf", "mountPath": "/conf"},
            {"name": "secret", "mountPath": "/secret"},
            {"name": "all", "mountPath": "/all"},
            {"name": "info", "mountPath": "/info"},
        ],
    )
    token = {"serviceAccountToken": {"path": "token.path/token", "expirationSeconds": 600}}
    pod = bound(
        "kinds",
        container,
        restartPolicy="Never",
        securityContext={"fsGroup": 4321},
        volumes=[
            {"name": "conf", "configMap": {"name": "conf"}},
            {
                "name": "secret",
                "secret": {
                    "secretName": "hidden",
                    "items": [{"key": "key", "path": "deep/key", "mode": 0o400}],
                },
            },
            {
                "name": "all",
                "projected": {
                    "sources": [
                        token,
                        {"configMap": {"name": "conf", "items": [{"key": "key", "path": "conf"}]}},
                        {"secret": {"name": "none", "optional": True}},
                    ]
                },
            },
            {
                "name": "info",
                "downwardAPI": {
                    "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
                },
            },
        ],
    )
    pod["metadata"]["labels"] = {"colour": "green"}
    api.create(pod)
    assert ended(api, "kinds") == "Succeeded"
    log = log_of(joined, api, "kinds")
    first, second, *rest = log.splitlines()
    assert first.startswith("from a config mapfrom a secretey")
    assert first.endswith('from a config mapcolour="green"')
    claims = first.removeprefix("from a config mapfrom a secret").split(".")[1]
    bound_to = json.loads(base64.urlsafe_b64decode(claims + "=="))["kubernetes.io"]["pod"]
    assert bound_to["name"] == "kinds"
    service = api.must("GET", f"{NAMESPACE}/services/kubernetes")["spec"]["clusterIP"]
    assert second == f"env from a config map from a secret . {service} from a secret!"
    assert rest == [
        "/secret/deep/key 440 0 4321",
        "/all/token.path/token 640 0 4321",
        "/conf/key 644 0 4321",
        *rest[3:6],
        "4",
    ]
    # Where secrets are kept nothing reaches a disk.
    assert sorted(rest[3:6])[-2:] == ["tmpfs", "tmpfs"]


def test_what_is_missing_is_told_and_waited_for(joined: KubeletProcess, api: Api, run: Run) -> None:
    mounts = [{"name": "conf", "mountPath": "/conf"}]
    pod = bound(
        "waiting",
        run("a", f"cat /conf/key; echo; {FOREVER}", volumeMounts=mounts),
        volumes=[{"name": "conf", "configMap": {"name": "later"}}],
    )
    api.create(pod)
    key = {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "key"}}}
    api.create(bound("variable", run("a", FOREVER, env=[key])))
    api.create(bound("beside", run("a", FOREVER)))
    message = 'MountVolume.SetUp failed for volume "conf" : configmap "later" not found'
    wait_for(lambda: ("FailedMount", message) in events_of(joined, "waiting"), "FailedMount")
    said = api.wait(
        "variable",
        lambda pod: pod["status"].get("containerStatuses", [{}])[0].get("state", {})
        .get("waiting", {}).get("reason") == "CreateContainerConfigError",
        "CreateContainerConfigError",
    )  # fmt: skip
    state = said["status"]["containerStatuses"][0]["state"]["waiting"]
    assert state["message"] == 'configmap "later" not found'
    api.wait_ready("beside")
    config_map(api, "later", key="here")
    # By watch: at once, whatever the pause between attempts has become.
    api.wait_ready("waiting", timeout=5)
    api.wait_ready("variable", timeout=5)
    wait_for(lambda: log_of(joined, api, "waiting") == "here", "the content")


def test_updates_reach_running_pods(joined: KubeletProcess, api: Api, run: Run) -> None:
    config_map(api, "live", key="1", old="x")
    mounts = [{"name": "conf", "mountPath": "/conf"}, {"name": "info", "mountPath": "/info"}]
    pod = bound(
        "live",
        run("a", FOREVER, volumeMounts=mounts),
        volumes=[
            {"name": "conf", "configMap": {"name": "live"}},
            {
                "name": "info",
                "downwardAPI": {
                    "items": [
                        {"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['note']"}}
                    ]
                },
            },
        ],
    )
    api.create(pod)
    api.wait_ready("live")
    conf = volume_of(joined, api, "live", "configmap", "conf")
    info = volume_of(joined, api, "live", "downward-api", "info")
    config_map(api, "live", key="2", new="y")
    wait_for(lambda: (conf / "key").read_text() == "2", "the update", 2)
    wait_for(lambda: (conf / "new").exists(), "what is new", 2)
    assert (conf / "new").read_text() == "y"
    wait_for(lambda: not (conf / "old").is_symlink(), "the end of what is gone", 2)
    api.patch("live", {"metadata": {"annotations": {"note": "told"}}})
    wait_for(lambda: (info / "note").read_text() == "told", "the annotation", 2)
    # The next kubelet goes on with it, also with what changed meanwhile.
    joined.kill()
    config_map(api, "live", key="3")
    joined.start()
    wait_for(lambda: (conf / "key").read_text() == "3", "the update after a restart", 10)
    config_map(api, "live", key="4")
    wait_for(lambda: (conf / "key").read_text() == "4", "the next update", 2)


def claim(api: Api, name: str, source: dict[str, Any]) -> None:
    """Make a PersistentVolume and a claim that is bound to it, as a controller would."""
    capacity = {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"]}
    api.must("POST", "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": {
        **capacity, "storageClassName": "", **source}})  # fmt: skip
    made = api.must("POST", f"{NAMESPACE}/persistentvolumeclaims", {
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
                 "resources": {"requests": {"storage": "1Mi"}}},
    })  # fmt: skip
    bind(api, name, made["metadata"]["uid"])


def bind(api: Api, name: str, uid: str) -> None:
    kind = "application/merge-patch+json"
    reference = {"namespace": "default", "name": name, "uid": uid}
    api.must("PATCH", f"/api/v1/persistentvolumes/{name}", {"spec": {"claimRef": reference}}, kind)
    path = f"{NAMESPACE}/persistentvolumeclaims/{name}/status"
    api.must("PATCH", path, {"status": {"phase": "Bound"}}, kind)


def test_claims(joined: KubeletProcess, api: Api, run: Run, tmp_path: Path) -> None:
    local, host = tmp_path / "local", tmp_path / "host"
    local.mkdir()
    host.mkdir()
    (local / "file").touch(mode=0o600)
    here = {"key": "kubernetes.io/hostname", "operator": "Exists"}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    claim(api, "local", {"local": {"path": str(local)}, "nodeAffinity": affinity})
    claim(api, "host", {"hostPath": {"path": str(host)}})
    mounts = [{"name": "l", "mountPath": "/l"}, {"name": "h", "mountPath": "/h"}]
    read_only = {"claimName": "host", "readOnly": True}
    pod = bound(
        "claims",
        run("a", "touch /l/new; touch /h/new || echo refused; stat -c %a.%g /l/file; "
            f"{FOREVER}", volumeMounts=mounts),
        securityContext={"fsGroup": 4321},
        volumes=[
            {"name": "l", "persistentVolumeClaim": {"claimName": "local"}},
            {"name": "h", "persistentVolumeClaim": read_only},
        ],
    )  # fmt: skip
    api.create(pod)
    api.wait_ready("claims")
    wait_for(lambda: log_of(joined, api, "claims").endswith("660.4321"), "the log")
    assert log_of(joined, api, "claims").splitlines()[-2:] == ["refused", "660.4321"]
    assert (local / "new").stat().st_gid == 4321
    assert not (host / "new").exists()
    directory = volume_of(joined, api, "claims", "local-volume", "local")
    assert mountinfo.mounted_at(directory) is not None
    # A kubelet that finds it mounted has to undo it by what the last one recorded.
    joined.kill()
    joined.start()
    api.delete("claims")
    api.wait_gone("claims")
    assert mountinfo.mounted_at(directory) is None
    wait_for(lambda: not directory.parents[2].exists(), "the removal of the pod's directory")
    assert (local / "new").exists()


def test_images_files_of_variables_and_huge_pages(
    joined: KubeletProcess, api: Api, run: Run
) -> None:
    image = run("a", "")["image"]
    size = min(int(entry.name[10:-2]) for entry in Path("/sys/kernel/mm/hugepages").iterdir())
    pages = {f"hugepages-{size}Ki": "0", "cpu": "10m", "memory": "64Mi"}
    writes = run(
        "writes",
        "mkdir /files/deep; echo \"KEY='of a file' # from an init container\" > /files/deep/env",
        volumeMounts=[{"name": "files", "mountPath": "/files"}],
    )
    reads = run(
        "a",
        "echo $VALUE; ls /image/bin/sh /shell/sh; touch /image/new 2>&1 | grep -c Read-only; "
        "grep ' /huge ' /proc/self/mountinfo | grep -o hugetlbfs",
        env=[
            {
                "name": "VALUE",
                "valueFrom": {
                    "fileKeyRef": {"volumeName": "files", "path": "deep/env", "key": "KEY"}
                },
            }
        ],
        resources={"requests": pages, "limits": pages},
        volumeMounts=[
            {"name": "image", "mountPath": "/image"},
            {"name": "image", "mountPath": "/shell", "subPath": "bin"},
            {"name": "huge", "mountPath": "/huge"},
        ],
    )
    pod = bound(
        "images",
        reads,
        initContainers=[writes],
        restartPolicy="Never",
        volumes=[
            {"name": "image", "image": {"reference": image, "pullPolicy": "IfNotPresent"}},
            {"name": "files", "emptyDir": {}},
            {"name": "huge", "emptyDir": {"medium": "HugePages"}},
        ],
    )
    api.create(pod)
    assert ended(api, "images") == "Succeeded"
    assert log_of(joined, api, "images").splitlines() == [
        "of a file",
        "/image/bin/sh",
        "/shell/sh",
        "1",
        "hugetlbfs",
    ]


def test_an_image_that_cannot_be_had_is_told(joined: KubeletProcess, api: Api, run: Run) -> None:
    source = {"reference": "127.0.0.1:1/none:1", "pullPolicy": "Never"}
    mounts = [{"name": "image", "mountPath": "/image"}]
    api.create(
        bound(
            "imageless",
            run("a", FOREVER, volumeMounts=mounts),
            volumes=[{"name": "image", "image": source}],
        )
    )
    api.wait(
        "imageless",
        lambda pod: pod["status"].get("containerStatuses", [{}])[0].get("state", {})
        .get("waiting", {}).get("reason") == "ErrImageNeverPull",
        "ErrImageNeverPull",
    )  # fmt: skip
    api.delete("imageless")
    api.wait_gone("imageless")
