from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.codec import decode
from kubeletpy.api.defaults import set_defaults
from kubeletpy.api.pod import Pod
from kubeletpy.api.validation import validate

from .pods import document, with_container


def errors_of(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    pod = decode(manifest, Pod)
    set_defaults(pod)
    return [(error.path, error.reason) for error in validate(pod)]


def container_errors(**container: Any) -> list[tuple[str, str]]:
    return errors_of(document(**with_container(**container)))


def test_a_good_pod_has_no_errors() -> None:
    manifest = document(
        volumes=[{"name": "data", "emptyDir": {}}, {"name": "logs", "hostPath": {"path": "/x"}}],
        initContainers=[{"name": "init", "image": "x", "command": ["true"]}],
        securityContext={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "0"}]},
        hostAliases=[{"ip": "10.0.0.1", "hostnames": ["db.example"]}],
        **with_container(
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
            ports=[{"name": "http", "containerPort": 80}],
            readinessProbe={"httpGet": {"port": "http"}},
            resources={"limits": {"cpu": "1", "memory": "64Mi"}},
            lifecycle={"preStop": {"exec": {"command": ["sleep", "1"]}}, "stopSignal": "SIGINT"},
        ),
    )
    assert errors_of(manifest) == []


def test_all_errors_come_at_once() -> None:
    manifest = document(
        restartPolicy="Sometimes", containers=[{"name": "Bad_Name"}, {"name": "b", "image": "x"}]
    )
    manifest["metadata"]["name"] = ""
    assert errors_of(manifest) == [
        ("metadata.name", "Required value"),
        ("spec.containers[0].name", "Invalid value"),
        ("spec.containers[0].image", "Required value"),
        ("spec.restartPolicy", "Unsupported value"),
    ]


def test_empty_pod() -> None:
    assert errors_of({}) == [
        ("apiVersion", "Unsupported value"),
        ("kind", "Unsupported value"),
        ("metadata.name", "Required value"),
        ("spec.containers", "Required value"),
    ]


def test_message_names_path_reason_value_and_remedy() -> None:
    pod = decode(document(restartPolicy="Sometimes"), Pod)
    set_defaults(pod)
    assert str(validate(pod)[0]) == (
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: '
        '"Always", "Never", "OnFailure"'
    )


@pytest.mark.parametrize(
    ("container", "path", "reason"),
    [
        ({"image": " x"}, "image", "Invalid value"),
        ({"imagePullPolicy": "Maybe"}, "imagePullPolicy", "Unsupported value"),
        ({"command": ["a\0b"]}, "command[0]", "Invalid value"),
        ({"ports": [{}]}, "ports[0].containerPort", "Required value"),
        ({"ports": [{"containerPort": 65536}]}, "ports[0].containerPort", "Invalid value"),
        ({"ports": [{"containerPort": 1, "protocol": "tcp"}]}, "ports[0].protocol",
         "Unsupported value"),
        ({"ports": [{"containerPort": 1, "name": "-x"}]}, "ports[0].name", "Invalid value"),
        ({"ports": [{"containerPort": 1, "hostIP": "x"}]}, "ports[0].hostIP", "Invalid value"),
        ({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
         "ports[1].name", "Duplicate value"),
        ({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]},
         "ports[1].hostPort", "Duplicate value"),
        ({"env": [{}]}, "env[0].name", "Required value"),
        ({"env": [{"name": "A=B"}]}, "env[0].name", "Invalid value"),
        ({"env": [{"name": "A", "value": "\0"}]}, "env[0].value", "Invalid value"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "env[0].valueFrom", "Invalid value"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]},
         "env[0].valueFrom.fieldRef.fieldPath", "Unsupported value"),
        ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]},
         "env[0].valueFrom.resourceFieldRef.resource", "Unsupported value"),
        ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {
            "resource": "limits.cpu", "divisor": "3"}}}]},
         "env[0].valueFrom.resourceFieldRef.divisor", "Invalid value"),
        ({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}, "resources.requests",
         "Invalid value"),
        ({"volumeMounts": [{"name": "no", "mountPath": "/x"}]}, "volumeMounts[0].name",
         "Invalid value"),
        ({"volumeMounts": [{"name": "data"}]}, "volumeMounts[0].mountPath", "Required value"),
        ({"volumeMounts": [{"name": "data", "mountPath": "/x", "subPath": "../y"}]},
         "volumeMounts[0].subPath", "Invalid value"),
        ({"volumeMounts": [{"name": "data", "mountPath": "/x", "subPath": "/y"}]},
         "volumeMounts[0].subPath", "Invalid value"),
        ({"volumeMounts": [{"name": "data", "mountPath": "/x"},
                           {"name": "data", "mountPath": "/x"}]},
         "volumeMounts[1].mountPath", "Invalid value"),
        ({"volumeMounts": [{"name": "data", "mountPath": "/x",
                            "mountPropagation": "Bidirectional"}]},
         "volumeMounts[0].mountPropagation", "Forbidden"),
        ({"volumeMounts": [{"name": "data", "mountPath": "/x", "recursiveReadOnly": "Enabled"}]},
         "volumeMounts[0].recursiveReadOnly", "Forbidden"),
        ({"livenessProbe": {}}, "livenessProbe", "Required value"),
        ({"livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}},
         "livenessProbe", "Forbidden"),
        ({"livenessProbe": {"exec": {}}}, "livenessProbe.exec.command", "Required value"),
        ({"livenessProbe": {"tcpSocket": {"port": 0}}}, "livenessProbe.tcpSocket.port",
         "Invalid value"),
        ({"livenessProbe": {"tcpSocket": {"port": "nowhere"}}}, "livenessProbe.tcpSocket.port",
         "Invalid value"),
        ({"livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": -1}},
         "livenessProbe.periodSeconds", "Invalid value"),
        ({"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
         "livenessProbe.successThreshold", "Invalid value"),
        ({"livenessProbe": {"tcpSocket": {"port": 1}, "initialDelaySeconds": -1}},
         "livenessProbe.initialDelaySeconds", "Invalid value"),
        ({"readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 5}},
         "readinessProbe.terminationGracePeriodSeconds", "Invalid value"),
        ({"livenessProbe": {"httpGet": {"port": 1, "scheme": "FTP"}}},
         "livenessProbe.httpGet.scheme", "Unsupported value"),
        ({"livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [
            {"name": "A", "value": "b\r\nC: d"}]}}},
         "livenessProbe.httpGet.httpHeaders[0].value", "Invalid value"),
        ({"lifecycle": {"preStop": {}}}, "lifecycle.preStop", "Required value"),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": -1}}}},
         "lifecycle.preStop.sleep.seconds", "Invalid value"),
        ({"lifecycle": {"stopSignal": "SIGNONE"}}, "lifecycle.stopSignal", "Unsupported value"),
        ({"stdinOnce": True}, "stdinOnce", "Invalid value"),
        ({"terminationMessagePolicy": "X"}, "terminationMessagePolicy", "Unsupported value"),
        ({"securityContext": {"runAsUser": -1}}, "securityContext.runAsUser", "Invalid value"),
        ({"securityContext": {"runAsUser": 2**31}}, "securityContext.runAsUser", "Invalid value"),
        ({"securityContext": {"seccompProfile": {"type": "Localhost"}}},
         "securityContext.seccompProfile.localhostProfile", "Required value"),
        ({"securityContext": {"seccompProfile": {"type": "Localhost",
                                                 "localhostProfile": "../x"}}},
         "securityContext.seccompProfile.localhostProfile", "Invalid value"),
        ({"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
         "securityContext.allowPrivilegeEscalation", "Invalid value"),
    ],
)  # fmt: skip
def test_containers(container: dict[str, Any], path: str, reason: str) -> None:
    manifest = document(volumes=[{"name": "data", "emptyDir": {}}], **with_container(**container))
    assert errors_of(manifest) == [(f"spec.containers[0].{path}", reason)]


@pytest.mark.parametrize(
    ("spec", "path", "reason"),
    [
        ({"dnsPolicy": "Best"}, "dnsPolicy", "Unsupported value"),
        ({"dnsPolicy": "None"}, "dnsConfig.nameservers", "Required value"),
        ({"dnsConfig": {"nameservers": ["x"]}}, "dnsConfig.nameservers[0]", "Invalid value"),
        ({"dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}, "dnsConfig.nameservers",
         "Invalid value"),
        ({"dnsConfig": {"options": [{"name": "a\nnameserver 6.6.6.6"}]}}, "dnsConfig.options[0]",
         "Invalid value"),
        ({"terminationGracePeriodSeconds": -1}, "terminationGracePeriodSeconds", "Invalid value"),
        ({"activeDeadlineSeconds": 0}, "activeDeadlineSeconds", "Invalid value"),
        ({"hostname": "A_b"}, "hostname", "Invalid value"),
        ({"hostPID": True, "shareProcessNamespace": True}, "shareProcessNamespace",
         "Invalid value"),
        ({"hostUsers": False, "hostIPC": True}, "hostIPC", "Forbidden"),
        (with_container(securityContext={"procMount": "Unmasked"}),
         "containers[0].securityContext.procMount", "Invalid value"),
        (with_container(restartPolicyRules=[]) | {"restartPolicy": "Often"}, "restartPolicy",
         "Unsupported value"),
        (with_container(restartPolicy="Never", restartPolicyRules=[{"action": "Restart"}]),
         "containers[0].restartPolicyRules[0].exitCodes", "Required value"),
        (with_container(restartPolicy="Never", restartPolicyRules=[
            {"action": "Stop", "exitCodes": {"operator": "In", "values": [1]}}]),
         "containers[0].restartPolicyRules[0].action", "Unsupported value"),
        ({"hostAliases": [{"ip": "x", "hostnames": []}]}, "hostAliases[0].ip", "Invalid value"),
        ({"hostAliases": [{"ip": "::1", "hostnames": ["a b"]}]}, "hostAliases[0].hostnames[0]",
         "Invalid value"),
        ({"volumes": [{"name": "a"}, {"name": "a"}]}, "volumes[1].name", "Duplicate value"),
        ({"volumes": [{"name": "A"}]}, "volumes[0].name", "Invalid value"),
        ({"volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}]}, "volumes[0]",
         "Forbidden"),
        ({"volumes": [{"name": "a", "hostPath": {}}]}, "volumes[0].hostPath.path",
         "Required value"),
        ({"volumes": [{"name": "a", "hostPath": {"path": "/x/../y"}}]},
         "volumes[0].hostPath.path", "Invalid value"),
        ({"volumes": [{"name": "a", "hostPath": {"path": "/x", "type": "Dir"}}]},
         "volumes[0].hostPath.type", "Unsupported value"),
        ({"volumes": [{"name": "a", "emptyDir": {"medium": "Disk"}}]},
         "volumes[0].emptyDir.medium", "Unsupported value"),
        ({"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "-1"}}]},
         "volumes[0].emptyDir.sizeLimit", "Forbidden"),
        ({"volumes": [{"name": "a", "downwardAPI": {"items": [
            {"path": "../x", "fieldRef": {"fieldPath": "metadata.name"}}]}}]},
         "volumes[0].downwardAPI.items[0].path", "Invalid value"),
        ({"volumes": [{"name": "a", "downwardAPI": {"items": [{"path": "x"}]}}]},
         "volumes[0].downwardAPI.items[0]", "Required value"),
        ({"securityContext": {"fsGroup": -1}}, "securityContext.fsGroup", "Invalid value"),
        ({"securityContext": {"sysctls": [{"name": "kernel.core_pattern", "value": "x"}]}},
         "securityContext.sysctls[0].name", "Forbidden"),
        ({"securityContext": {"sysctls": [
            {"name": "kernel.shm_rmid_forced", "value": "1+kernel.core_pattern=|x"}]}},
         "securityContext.sysctls[0].value", "Invalid value"),
        ({"hostNetwork": True, "securityContext": {"sysctls": [
            {"name": "net.ipv4.tcp_syncookies", "value": "1"}]}},
         "securityContext.sysctls[0].name", "Forbidden"),
        ({"initContainers": [{"name": "main", "image": "x"}]}, "containers[0].name",
         "Duplicate value"),
        ({"initContainers": [{"name": "i", "image": "x",
                              "livenessProbe": {"tcpSocket": {"port": 1}}}]},
         "initContainers[0].livenessProbe", "Forbidden"),
        ({"initContainers": [{"name": "i", "image": "x", "restartPolicy": "Perhaps"}]},
         "initContainers[0].restartPolicy", "Unsupported value"),
    ],
)  # fmt: skip
def test_specs(spec: dict[str, Any], path: str, reason: str) -> None:
    assert errors_of(document(**spec)) == [(f"spec.{path}", reason)]


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"name": "Web"}, "metadata.name"),
        ({"name": "a" * 254}, "metadata.name"),
        ({"name": "a", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "a", "uid": "../../etc"}, "metadata.uid"),
        ({"name": "a", "labels": {"a": "b c"}}, "metadata.labels[a]"),
        ({"name": "a", "labels": {"a/b/c": "d"}}, "metadata.labels"),
        ({"name": "a", "annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
    ],
)
def test_metadata(metadata: dict[str, Any], path: str) -> None:
    manifest = {**document(), "metadata": metadata}
    assert [found for found, _ in errors_of(manifest)] == [path]


def test_sidecars_may_have_probes() -> None:
    sidecar = {
        "name": "proxy",
        "image": "x",
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["true"]}},
    }
    assert errors_of(document(initContainers=[sidecar])) == []


@pytest.mark.parametrize(
    ("name", "amount"), [("cpu", "-1"), ("cpu", "1u"), ("memory", "100m"), ("gpus", "1")]
)
def test_amounts(name: str, amount: str) -> None:
    # The request that defaults to the limit is as wrong as the limit.
    assert container_errors(resources={"limits": {name: amount}}) == [
        (f"spec.containers[0].resources.{kind}[{name}]", "Invalid value")
        for kind in ("limits", "requests")
    ]


def test_nfs_volumes() -> None:
    manifest = document(
        volumes=[{"name": "a", "nfs": {}}, {"name": "b", "nfs": {"server": "s", "path": "x"}}]
    )
    assert errors_of(manifest) == [
        ("spec.volumes[0].nfs.server", "Required value"),
        ("spec.volumes[0].nfs.path", "Required value"),
        ("spec.volumes[1].nfs.path", "Invalid value"),
    ]


def test_files_of_variables() -> None:
    reference = {"path": "../env"}
    assert container_errors(env=[{"name": "A", "valueFrom": {"fileKeyRef": reference}}]) == [
        ("spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName", "Required value"),
        ("spec.containers[0].env[0].valueFrom.fileKeyRef.key", "Required value"),
        ("spec.containers[0].env[0].valueFrom.fileKeyRef.path", "Invalid value"),
    ]
