from __future__ import annotations

from typing import Any

import pytest

from controlplane.api.identity import ANONYMOUS, User
from controlplane.auth.authorization import bootstrap
from controlplane.auth.authorization.attributes import Attributes, demanded, forbidden
from controlplane.auth.authorization.rbac import subject_key
from controlplane.auth.authorization.references import of_pod, of_volume
from controlplane.auth.authorization.rules import describe, path_matches, read_rule, uncovered

ANN = User("ann")


def rule(verbs: str, resources: str = "", groups: str = "", **more: Any) -> dict[str, Any]:
    """Words in a text are the entries of a list; "core" is the group without name."""
    value: dict[str, Any] = {"verbs": verbs.split(), **more}
    if resources:
        value["resources"] = resources.split()
        value["apiGroups"] = [g if g != "core" else "" for g in (groups or "core").split()]
    return value


@pytest.mark.parametrize(
    ("given", "wanted", "allowed"),
    [
        (rule("get list", "pods"), {"verb": "get", "resource": "pods"}, True),
        (rule("get list", "pods"), {"verb": "watch", "resource": "pods"}, False),
        (rule("*", "pods"), {"verb": "anything", "resource": "pods"}, True),
        (rule("get", "pods"), {"verb": "get", "resource": "pods", "group": "metrics"}, False),
        (rule("get", "pods", "*"), {"verb": "get", "resource": "pods", "group": "metrics"}, True),
        (rule("get", "pods"), {"verb": "get", "resource": "pods", "subresource": "log"}, False),
        (rule("get", "pods/log"), {"verb": "get", "resource": "pods", "subresource": "log"}, True),
        (rule("get", "pods/log"), {"verb": "get", "resource": "pods"}, False),
        (rule("get", "*/scale"), {"verb": "get", "resource": "x", "subresource": "scale"}, True),
        (rule("get", "*/scale"), {"verb": "get", "resource": "x", "subresource": "status"}, False),
        (rule("get", "pods/*"), {"verb": "get", "resource": "pods", "subresource": "log"}, False),
        (rule("get", "*"), {"verb": "get", "resource": "pods", "subresource": "log"}, True),
        (rule("get", "pods", resourceNames=["a"]), {"verb": "get", "resource": "pods",
                                                    "name": "a"}, True),
        (rule("get", "pods", resourceNames=["a"]), {"verb": "get", "resource": "pods"}, False),
        (rule("get", nonResourceURLs=["/metrics"]), {"verb": "get", "path": "/metrics"}, True),
        (rule("get", nonResourceURLs=["/logs/*"]), {"verb": "get", "path": "/logs/x/y"}, True),
        (rule("get", nonResourceURLs=["/logs/*"]), {"verb": "get", "path": "/log"}, False),
        (rule("*", "*", "*"), {"verb": "get", "path": "/metrics"}, False),
        (rule("*", nonResourceURLs=["*"]), {"verb": "get", "resource": "pods"}, False),
        ({"verbs": None, "resources": None}, {"verb": "get", "resource": "pods"}, False),
    ],
)  # fmt: skip
def test_what_a_rule_allows(given: dict[str, Any], wanted: dict[str, str], allowed: bool) -> None:
    assert read_rule(given).allows(Attributes(ANN, **wanted)) is allowed  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("owned", "wanted", "missing"),
    [
        ([rule("*", "*", "*")], [rule("get", "pods")], []),
        ([rule("get", "pods")], [rule("get list", "pods")],
         ['{APIGroups:[""], Resources:["pods"], Verbs:["list"]}']),
        ([rule("get", "pods"), rule("list", "pods")], [rule("get list", "pods")], []),
        ([rule("get", "pods", resourceNames=["a"])], [rule("get", "pods")],
         ['{APIGroups:[""], Resources:["pods"], Verbs:["get"]}']),
        ([rule("get", "pods")], [rule("get", "pods", resourceNames=["a"])], []),
        ([rule("get", "*/log")], [rule("get", "pods/log")], []),
        ([rule("get", "pods")], [rule("get", "pods/log")],
         ['{APIGroups:[""], Resources:["pods/log"], Verbs:["get"]}']),
        ([rule("get", nonResourceURLs=["/a/*"])], [rule("get", nonResourceURLs=["/a/b"])], []),
        ([rule("*", "*", "*")], [rule("get", nonResourceURLs=["/a"])],
         ['{NonResourceURLs:["/a"], Verbs:["get"]}']),
        ([], [rule("get list", "pods services")],
         ['{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}',
          '{APIGroups:[""], Resources:["services"], Verbs:["get" "list"]}']),
    ],
)  # fmt: skip
def test_what_rules_do_not_cover(owned: list[Any], wanted: list[Any], missing: list[str]) -> None:
    have, want = [read_rule(one) for one in owned], [read_rule(one) for one in wanted]
    assert describe(uncovered(have, want)) == missing


@pytest.mark.parametrize(
    ("wanted", "reason", "text"),
    [
        (Attributes(ANN, "list", resource="pods", namespace="a"), "",
         'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the '
         'namespace "a"'),
        (Attributes(ANN, "get", "apps", "v1", "deployments", "scale", "a", "web"), "why",
         'deployments.apps "web" is forbidden: User "ann" cannot get resource "deployments/scale" '
         'in API group "apps" in the namespace "a": why'),
        (Attributes(ANN, "get", resource="nodes", name="n"), "",
         'nodes "n" is forbidden: User "ann" cannot get resource "nodes" in API group "" at the '
         "cluster scope"),
        (Attributes(ANONYMOUS, "get", path="/metrics"), "",
         'forbidden: User "system:anonymous" cannot get path "/metrics"'),
    ],
)  # fmt: skip
def test_the_words_of_a_refusal(wanted: Attributes, reason: str, text: str) -> None:
    status = forbidden(wanted, reason).to_status()
    assert (status["message"], status["reason"], status["code"]) == (text, "Forbidden", 403)


@pytest.mark.parametrize(
    ("subject", "namespace", "key"),
    [
        ({"kind": "User", "name": "a"}, "", "user:a"),
        ({"kind": "Group", "name": "a"}, "x", "group:a"),
        ({"kind": "ServiceAccount", "name": "a"}, "x", "user:system:serviceaccount:x:a"),
        ({"kind": "ServiceAccount", "name": "a", "namespace": "y"}, "x",
         "user:system:serviceaccount:y:a"),
        ({"kind": "ServiceAccount", "name": "a"}, "", ""),
        ({"kind": "Robot", "name": "a"}, "x", ""),
    ],
)  # fmt: skip
def test_whom_a_subject_means(subject: dict[str, str], namespace: str, key: str) -> None:
    assert subject_key(subject, namespace) == key


def test_patterns_and_selectors() -> None:
    assert [path_matches("/a*", path) for path in ("/a", "/ab/c", "/b")] == [True, True, False]
    assert demanded("spec.nodeName=a,metadata.name!=b") == (("spec.nodeName", "a"),)
    assert demanded("no selector") == ()


def test_what_a_pod_refers_to() -> None:
    container = {
        "envFrom": [{"secretRef": {"name": "s1"}}, {"configMapRef": {"name": "c1"}}],
        "env": [
            {"name": "A", "value": "x"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}},
        ],
    }
    volumes = [
        {"name": "a", "secret": {"secretName": "s3"}},
        {"name": "b", "configMap": {"name": "c3"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "p1"}},
        {"name": "d", "ephemeral": {}, "emptyDir": None},
        {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "f", "csi": {"nodePublishSecretRef": {"name": "s4"}}},
        {"name": "g", "projected": {"sources": [{"secret": {"name": "s5"}},
                                                {"configMap": {"name": "c4"}}]}},
    ]  # fmt: skip
    spec = {
        "serviceAccountName": "sa",
        "imagePullSecrets": [{"name": "s6"}, {}],
        "initContainers": [container],
        "ephemeralContainers": [{"env": None}],
        "volumes": volumes,
    }
    found = of_pod({"metadata": {"namespace": "n", "name": "pod"}, "spec": spec})
    assert {f"{plural}/{name}" for plural, namespace, name in found if namespace == "n"} == {
        *(f"secrets/s{number}" for number in range(1, 7)),
        *(f"configmaps/c{number}" for number in range(1, 5)),
        "persistentvolumeclaims/p1", "persistentvolumeclaims/pod-e", "serviceaccounts/sa",
    }  # fmt: skip
    claim = {"namespace": "n", "name": "p1"}
    volume = {"claimRef": claim, "csi": {"nodeStageSecretRef": {"name": "s", "namespace": "m"}}}
    assert of_volume({"spec": volume}) == (
        ("persistentvolumeclaims", "n", "p1"), {("secrets", "m", "s")},
    )  # fmt: skip
    assert of_volume({"spec": {}}) == (None, set())


def test_default_roles_and_their_reconciliation() -> None:
    defaults = {(one["kind"], one["metadata"]["name"]): one for one in bootstrap.default_objects()}
    assert len(defaults) > 130
    view = defaults["ClusterRole", "system:discovery"]
    assert bootstrap.reconciled(view, view) is None
    more = {"verbs": ["get"], "nonResourceURLs": ["/mine"]}
    found = {**view, "rules": [more]}
    changed = bootstrap.reconciled(found, view)
    assert changed is not None
    assert changed["rules"] == [more, *view["rules"]]
    annotations = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    protected = {**found, "metadata": {**found["metadata"], "annotations": annotations}}
    assert bootstrap.reconciled(protected, view) is None
    binding = defaults["ClusterRoleBinding", "kubeadm:cluster-admins"]
    changed = bootstrap.reconciled({**binding, "subjects": []}, binding)
    assert changed is not None
    assert changed["subjects"] == binding["subjects"]


def test_aggregated_rules() -> None:
    def role(name: str, labels: dict[str, str], *rules: Any, **more: Any) -> dict[str, Any]:
        return {"metadata": {"name": name, "labels": labels}, "rules": list(rules), **more}

    one, other = rule("get", "a"), rule("get", "b")
    rule_of_all = {"clusterRoleSelectors": [{"matchLabels": {"x": "1"}}]}
    all_of = role("all", {"x": "1"}, aggregationRule=rule_of_all)
    roles = [role("b", {"x": "1"}, other, one), role("a", {"x": "1"}, one), role("c", {}), all_of]
    assert bootstrap.aggregated(all_of, roles) == [one, other]
    assert bootstrap.aggregated(roles[0], roles) is None


def test_the_proxy_may_follow_what_policies_depend_on() -> None:
    found = {(one["kind"], one["metadata"]["name"]): one for one in bootstrap.default_objects()}
    name = "kubeletpy:network-policies"
    rules = [read_rule(each) for each in found["ClusterRole", name]["rules"]]
    wanted = [
        read_rule({"apiGroups": [group], "resources": [resource], "verbs": ["list", "watch"]})
        for group, resource in (
            ("", "pods"), ("", "namespaces"), ("networking.k8s.io", "networkpolicies")
        )
    ]  # fmt: skip
    assert not uncovered(rules, wanted)
    assert found["ClusterRoleBinding", name]["subjects"][0]["name"] == "system:kube-proxy"
