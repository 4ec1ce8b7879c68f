from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from controlplane.api.identity import User
from controlplane.auth.audit.log import AuditLog
from controlplane.auth.audit.policy import Policy, everything, read_policy
from controlplane.auth.authorization.attributes import Attributes
from controlplane.options import OptionsError
from tests.unit.controlplane.auth.secure import client_of, secure_server

ANN = User("ann", "", ("staff",))
HEAD = {"kind": "Policy", "apiVersion": "audit.k8s.io/v1"}
NS = "/api/v1/namespaces/default"


@pytest.mark.parametrize(
    ("rule", "wanted", "fits"),
    [
        ({}, {"verb": "get", "resource": "pods"}, True),
        ({"users": ["bob"]}, {"verb": "get", "resource": "pods"}, False),
        ({"userGroups": ["staff"]}, {"verb": "get", "resource": "pods"}, True),
        ({"verbs": ["list"]}, {"verb": "get", "resource": "pods"}, False),
        ({"namespaces": ["a"]}, {"verb": "get", "resource": "pods", "namespace": "a"}, True),
        ({"namespaces": ["a"]}, {"verb": "get", "resource": "nodes"}, False),
        ({"namespaces": [""]}, {"verb": "get", "resource": "nodes"}, True),
        ({"resources": [{"group": ""}]}, {"verb": "get", "resource": "pods"}, True),
        ({"resources": [{"group": "apps"}]}, {"verb": "get", "resource": "pods"}, False),
        ({"resources": [{"resources": ["pods"]}]},
         {"verb": "get", "resource": "pods", "subresource": "log"}, False),
        ({"resources": [{"resources": ["pods/*"]}]},
         {"verb": "get", "resource": "pods", "subresource": "log"}, True),
        ({"resources": [{"resources": ["*/log"]}]},
         {"verb": "get", "resource": "pods", "subresource": "log"}, True),
        ({"resources": [{"resources": ["pods"], "resourceNames": ["a"]}]},
         {"verb": "get", "resource": "pods", "name": "b"}, False),
        ({"nonResourceURLs": ["/health*"]}, {"verb": "get", "path": "/healthz"}, True),
        ({"nonResourceURLs": ["/health*"]}, {"verb": "get", "resource": "pods"}, False),
        ({"resources": [{"group": ""}]}, {"verb": "get", "path": "/healthz"}, False),
    ],
)  # fmt: skip
def test_which_rule_decides(rule: dict[str, Any], wanted: dict[str, str], fits: bool) -> None:
    policy = Policy({**HEAD, "rules": [{"level": "Request", **rule}, {"level": "None"}]})
    decided = policy.decide(Attributes(ANN, **wanted))  # type: ignore[arg-type]
    assert decided.level == ("Request" if fits else "None")


@pytest.mark.parametrize(
    "value",
    [
        None, {"kind": "Policy"}, HEAD, {**HEAD, "rules": []}, {**HEAD, "rules": ["x"]},
        {**HEAD, "rules": [{"level": "All"}]}, {**HEAD, "rules": [{"level": "None", "user": []}]},
        {**HEAD, "rules": [{"level": "None", "omitStages": ["End"]}]},
        {**HEAD, "rules": [{"level": "None", "users": "ann"}]},
        {**HEAD, "rules": [{"level": "None", "resources": [{}], "nonResourceURLs": ["/"]}]},
    ],
)  # fmt: skip
def test_policies_that_are_none(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_text(json.dumps(value))
    with pytest.raises(OptionsError, match="audit policy"):
        read_policy(path)


def events_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
async def test_what_is_logged(data: Path) -> None:
    policy = data / "policy.yaml"
    rules = [
        {"level": "RequestResponse", "omitManagedFields": True, "omitStages": ["RequestReceived"],
         "resources": [{"group": "", "resources": ["configmaps"]}]},
        {"level": "Metadata", "users": ["", "ann", "kubernetes-admin"], "verbs": ["watch", "get"]},
    ]  # fmt: skip
    policy.write_text(json.dumps({**HEAD, "rules": rules}))
    log = data / "audit.log"
    async with (
        secure_server(data, audit_log=log, audit_policy=policy),
        client_of(data / "admin.kubeconfig") as admin,
        client_of(data / "admin.kubeconfig", anonymous=True) as other,
    ):
        made = {"metadata": {"name": "a"}, "data": {"k": "v"}}
        assert (await admin.call("POST", NS + "/configmaps", made))[0] == 201
        as_ann = {"Impersonate-User": "ann"}
        assert (await admin.call("GET", NS + "/secrets/s", headers=as_ann))[0] == 403
        assert (await other.call("GET", NS + "/pods/p"))[0] == 401
        assert (await admin.call("GET", NS + "/pods"))[0] == 200
        watch = f"{admin.url}{NS}/secrets?watch=1&timeoutSeconds=1&resourceVersion=0"
        async with admin.session.get(watch) as answer:
            identifier = answer.headers["Audit-Id"]
            await answer.read()
        # The end of a watch is logged after its last byte, which the client has by now.
        async with asyncio.timeout(10):
            while len(events_of(log)) < 7:  # noqa: ASYNC110 - a file that is written tells nobody
                await asyncio.sleep(0.01)
    events = events_of(log)
    made_event, received, refused, unknown, *watched = events
    assert (made_event["stage"], made_event["verb"], made_event["responseStatus"]["code"]) == (
        "ResponseComplete", "create", 201,
    )  # fmt: skip
    assert made_event["requestObject"] == made
    assert made_event["responseObject"]["metadata"]["uid"]
    assert "managedFields" not in made_event["responseObject"]["metadata"]
    assert made_event["objectRef"] == {
        "resource": "configmaps", "namespace": "default", "apiVersion": "v1",
    }  # fmt: skip
    assert (received["stage"], received["auditID"]) == ("RequestReceived", refused["auditID"])
    assert refused["impersonatedUser"]["username"] == "ann"
    assert refused["responseStatus"]["reason"] == "Forbidden"
    assert refused["annotations"] == {"authorization.k8s.io/decision": "forbid"}
    assert "requestObject" not in refused
    assert (unknown["responseStatus"]["code"], unknown["objectRef"]["name"]) == (401, "p")
    assert [event["stage"] for event in watched] == [
        "RequestReceived", "ResponseStarted", "ResponseComplete",
    ]  # fmt: skip
    assert {event["auditID"] for event in watched} == {identifier}
    assert log.stat().st_mode & 0o777 == 0o600


def test_bounds(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AuditLog(path, waiting=2, size=20)
    for number in range(3):
        log.add({"number": number})
    log._write(log._take())
    assert events_of(tmp_path / "log.1") == [{"number": 0}, {"number": 1}]
    log.add({"number": 3})
    log._write(log._take())
    assert events_of(path) == [{"number": 3}]
    with pytest.raises(OptionsError, match="audit log"):
        AuditLog(tmp_path / "no" / "log")
    assert everything().decide(Attributes(ANN, "get")).level == "Metadata"
    os.close(log._descriptor)
