"""Workloads by kubectl: scaled, described, waited for, drained; and what it asks of a server."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.support.kubectl import Kubectl

pytestmark = pytest.mark.root

_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "server", "image": "example.com/web:1"}]},
}
_READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.fixture
def deployment(kubectl: Kubectl) -> Kubectl:
    """Kubectl in a namespace with a Deployment."""
    said = kubectl("create", "deployment", "web", "--image=example.com/web:1")
    assert said == "deployment.apps/web created\n"
    return kubectl


@pytest.fixture
def account(kubectl: Kubectl) -> Kubectl:
    """Kubectl in a namespace in which pods can be made: it has its ServiceAccount."""
    done = kubectl.run("create", "serviceaccount", "default")
    assert done.returncode == 0 or "already exists" in done.stderr, done.stderr
    return kubectl


@pytest.fixture
def node(admin: Kubectl) -> Iterator[str]:
    """A node that nobody runs."""
    name = f"node-{secrets.token_hex(4)}"
    admin("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node",
                                                 "metadata": {"name": name}}))  # fmt: skip
    yield name
    admin("delete", "node", name)


def test_scale_changes_the_wanted_number(deployment: Kubectl) -> None:
    assert "scaled" in deployment("scale", "deployment", "web", "--replicas=3")
    assert deployment.json("get", "deployment", "web")["spec"]["replicas"] == 3
    refused = deployment("scale", "deploy/web", "--current-replicas=2", "--replicas=1", code=1)
    assert "expected replicas to be 2, was 3" in refused.lower()
    shown = deployment("get", "deployments").splitlines()
    assert shown[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert shown[1].split()[:4] == ["web", "0/3", "0", "0"]


def test_rollout_history_reads_the_replica_sets(deployment: Kubectl) -> None:
    value = deployment.json("get", "deployment", "web")
    for revision, image in ((1, "example.com/web:1"), (2, "example.com/web:2")):
        template = json.loads(json.dumps(value["spec"]["template"]))
        template["metadata"]["labels"]["pod-template-hash"] = f"hash{revision}"
        template["spec"]["containers"][0]["image"] = image
        replica_set = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"web-hash{revision}",
                "labels": template["metadata"]["labels"],
                "annotations": {
                    "deployment.kubernetes.io/revision": str(revision),
                    "kubernetes.io/change-cause": f"the {revision}. time",
                },
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "name": "web",
                        "uid": value["metadata"]["uid"],
                        "controller": True,
                    }
                ],
            },
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": template["metadata"]["labels"]},
                "template": template,
            },
        }
        deployment("create", "-f", "-", stdin=json.dumps(replica_set))
    history = deployment("rollout", "history", "deployment/web").splitlines()
    assert [line.split() for line in history if line[:1].isdigit()] == [
        ["1", "the", "1.", "time"],
        ["2", "the", "2.", "time"],
    ]
    detail = deployment("rollout", "history", "deployment/web", "--revision=2")
    assert "example.com/web:2" in detail


def test_restart_and_image_change_the_template(deployment: Kubectl) -> None:
    assert "restarted" in deployment("rollout", "restart", "deployment/web")
    assert "image updated" in deployment("set", "image", "deployment/web", "web=example.com/web:9")
    value = deployment.json("get", "deployment", "web")
    template = value["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "example.com/web:9"
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
    assert value["metadata"]["generation"] == 3


def test_deletion_takes_what_is_owned_or_leaves_it(account: Kubectl) -> None:
    for name in ("kept", "gone"):
        account("create", "deployment", name, "--image=example.com/web:1")
        uid = account("get", "deployment", name, "-o", "jsonpath={.metadata.uid}")
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}
        owned = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"of-{name}", "ownerReferences": [owner]},
        }
        account("create", "-f", "-", stdin=json.dumps(owned))
    orphan = "--cascade=orphan"
    account("delete", "deployment", "kept", orphan)
    kept = account.json("get", "configmap", "of-kept")
    assert "ownerReferences" not in kept["metadata"]
    foreground = ("--cascade=foreground",) if account.minor >= 20 else ()
    account("delete", "deployment", "gone", *foreground)
    assert "NotFound" in account("get", "configmap", "of-gone", code=1)


def test_wait_for_a_condition(account: Kubectl, namespace: str) -> None:
    account("create", "-f", "-", stdin=json.dumps(_POD))
    waiting = ("wait", "--for=condition=Ready", "pod/web", "--timeout=20s", "-v=6")
    with account.running(*waiting) as waiter:
        waiter.until("watch=true")
        path = f"/api/v1/namespaces/{namespace}/pods/web/status"
        value = account.json("get", "pod", "web")
        value["status"] |= _READY["status"]
        account("replace", "--raw", path, "-f", "-", stdin=json.dumps(value))
        waiter.until("condition met")
        waiter.end()


def test_pods_are_shown_selected_and_described(account: Kubectl) -> None:
    assert account("create", "-f", "-", stdin=json.dumps(_POD)) == "pod/web created\n"
    shown = account("get", "pods").splitlines()
    assert shown[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert shown[1].split()[:4] == ["web", "0/1", "Pending", "0"]
    wide = account("get", "pods", "-o", "wide").splitlines()[0].split()
    assert wide[5:7] == ["IP", "NODE"]
    pending = ("get", "pods", "--field-selector", "status.phase=Pending,spec.nodeName=")
    assert account(*pending, "-o", "name") == "pod/web\n"
    assert account("get", "pods", "--field-selector", "status.phase=Running", "-o", "name") == ""
    described = account("describe", "pod", "web")
    for words in ("Name:", "Image:", "example.com/web:1", "QoS Class:"):
        assert words in described
    assert "BestEffort" in described
    assert "node.kubernetes.io/not-ready:NoExecute" in described


def test_a_wrong_pod_names_the_field(account: Kubectl) -> None:
    wrong = json.loads(json.dumps(_POD))
    wrong["spec"]["containers"].append({"name": "server", "image": "x"})
    wrong["spec"]["restartPolicy"] = "Sometimes"
    said = account("create", "-f", "-", stdin=json.dumps(wrong), code=1)
    assert 'spec.containers[1].name: Duplicate value: "server"' in said
    assert 'spec.restartPolicy: Unsupported value: "Sometimes"' in said


def test_events_are_listed_and_described(account: Kubectl, namespace: str) -> None:
    account("create", "-f", "-", stdin=json.dumps(_POD))
    uid = account("get", "pod", "web", "-o", "jsonpath={.metadata.uid}")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "web.1", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "web",
            "namespace": namespace,
            "uid": uid,
        },
        "type": "Warning",
        "reason": "Testing",
        "message": "this is a test",
        "source": {"component": "tests"},
        "count": 1,
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
    }
    account("create", "-f", "-", stdin=json.dumps(event))
    shown = account("get", "events").splitlines()
    assert shown[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert shown[1].split()[1:4] == ["Warning", "Testing", "pod/web"]
    assert "this is a test" in account("describe", "pod", "web")
    by_reason = ("get", "events", "--field-selector", "reason=Testing,involvedObject.name=web")
    assert account(*by_reason, "-o", "name") == "event/web.1\n"


def test_cordon_and_drain(admin: Kubectl, account: Kubectl, node: str) -> None:
    assert "cordoned" in admin("cordon", node)
    assert admin("get", "node", node).splitlines()[1].split()[1] == "Unknown,SchedulingDisabled"
    pod = json.loads(json.dumps(_POD))
    pod["spec"]["nodeName"] = node
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    account("create", "-f", "-", stdin=json.dumps(pod))
    done = admin.run("drain", node, "--force", "--ignore-daemonsets", "--timeout=20s")
    assert "evicting pod" in done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NotFound" in account("get", "pod", "web", code=1)
    assert "uncordoned" in admin("uncordon", node)


def test_what_the_server_has(admin: Kubectl) -> None:
    listed = admin("api-resources", "--no-headers").splitlines()
    rows = {tuple(line.split()) for line in listed}
    kinds = {row[-1] for row in rows}
    assert {"Pod", "Deployment", "CronJob", "Lease", "CustomResourceDefinition"} <= kinds
    pods = next(row for row in rows if row[0] == "pods")
    assert pods == ("pods", "po", "v1", "true", "Pod")
    assert "apps/v1" in admin("api-versions").splitlines()
    namespaced = admin("api-resources", "--namespaced=false", "-o", "name").split()
    assert "nodes" in namespaced
    assert "pods" not in namespaced


def test_explain_knows_the_fields(admin: Kubectl) -> None:
    told = admin("explain", "deployment.spec.strategy.rollingUpdate")
    assert "maxSurge" in told
    assert "maxUnavailable" in told
    assert "does not exist" in admin("explain", "pod.spec.nonsense", code=1)


def test_auth_can_i(admin: Kubectl, kubectl: Kubectl, namespace: str) -> None:
    assert admin("auth", "can-i", "delete", "nodes") == "yes\n"
    kubectl("create", "serviceaccount", "reader")
    kubectl("create", "role", "reads", "--verb=get,list", "--resource=pods")
    binding = ("rolebinding", "reads", "--role=reads")
    kubectl("create", *binding, f"--serviceaccount={namespace}:reader")
    who = f"--as=system:serviceaccount:{namespace}:reader"
    assert kubectl("auth", "can-i", "list", "pods", who) == "yes\n"
    assert kubectl("auth", "can-i", "delete", "pods", who, code=1).startswith("no")
    refused = kubectl("delete", "pod", "none", who, code=1)
    assert "Forbidden" in refused
    assert 'cannot list resource "secrets"' in kubectl("get", "secrets", who, code=1)


def test_cluster_info_and_version(admin: Kubectl) -> None:
    assert "is running at" in admin("cluster-info")
    version = admin.json("version")
    assert version["serverVersion"]["minor"].rstrip("+") == "36"
    assert admin("get", "--raw", "/readyz") == "ok"
