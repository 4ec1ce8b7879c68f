"""Custom resources and OpenAPI, by kubectl of any version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl

pytestmark = pytest.mark.root

GROUP = "kubeletpy-test.example"
DEFINITION = f"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: crontabs.{GROUP}}}
spec:
  group: {GROUP}
  scope: Namespaced
  names: {{plural: crontabs, kind: CronTab, shortNames: [ct]}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {{}}
      scale: {{specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {{name: Spec, type: string, jsonPath: .spec.cronSpec}}
    - {{name: Replicas, type: integer, jsonPath: .spec.replicas}}
    schema:
      openAPIV3Schema:
        type: object
        description: Something that is done again and again.
        properties:
          spec:
            type: object
            required: [cronSpec]
            x-kubernetes-validations:
            - {{rule: "self.replicas <= 10", message: "are too many", fieldPath: .replicas}}
            properties:
              cronSpec: {{type: string, description: When it is done.}}
              replicas: {{type: integer, minimum: 1, default: 1}}
              free: {{type: object, x-kubernetes-preserve-unknown-fields: true}}
              port: {{x-kubernetes-int-or-string: true}}
          status:
            type: object
            properties: {{replicas: {{type: integer}}}}
"""
OBJECT = f"""
apiVersion: {GROUP}/v1
kind: CronTab
metadata: {{name: one}}
spec: {{cronSpec: "* * * * *", port: http, free: {{a: {{b: 1}}}}}}
"""


@pytest.fixture(scope="module")
def defined(admin: Kubectl) -> Iterator[None]:
    """The definition, established; it is gone at the end."""
    admin("apply", "-f", "-", stdin=DEFINITION)
    admin("wait", f"crd/crontabs.{GROUP}", "--for=condition=Established", "--timeout=20s")
    yield
    admin("delete", "crd", f"crontabs.{GROUP}", "--timeout=20s")
    assert admin("get", "crd", "--ignore-not-found", f"crontabs.{GROUP}") == ""


@pytest.mark.usefixtures("defined")
def test_an_object_from_its_making_to_its_end(kubectl: Kubectl, tmp_path: Path) -> None:
    # The document of the new kind may come a moment after the kind itself.
    kubectl("apply", "--validate=false", "-f", "-", stdin=OBJECT)
    assert "unchanged" in kubectl("apply", "--validate=false", "-f", "-", stdin=OBJECT)
    heading, row = kubectl("get", "ct").splitlines()
    assert heading.split() == ["NAME", "SPEC", "REPLICAS"]
    assert row.split() == ["one", *"*****", "1"]
    assert kubectl.json("get", "crontab", "one")["spec"]["free"] == {"a": {"b": 1}}
    kubectl("scale", "crontab", "one", "--replicas=3")
    kubectl("patch", "ct", "one", "--type=merge", "-p", '{"spec":{"port":80}}')
    assert kubectl("get", "ct", "one", "-o", "jsonpath={.spec.replicas} {.spec.port}") == "3 80"
    refused = '{"spec":{"replicas":11}}'
    told = kubectl("patch", "ct", "one", "--type=merge", "-p", refused, code=1)
    assert "spec.replicas: Invalid value: " in told
    assert "are too many" in told
    told = kubectl("patch", "ct", "one", "--type=merge", "-p", '{"spec":{"replicas":"x"}}', code=1)
    assert "must be of type integer" in told
    changed = tmp_path / "changed.yaml"
    changed.write_text(OBJECT.replace("http", "https"))
    assert "port: https" in kubectl("diff", "-f", str(changed), code=1)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(changed))
    assert kubectl("get", "ct", "one", "-o", "jsonpath={.spec.port}") == "https"
    kubectl("delete", "ct", "one", "--timeout=20s")


@pytest.mark.usefixtures("defined")
def test_unknown_fields_are_told(kubectl: Kubectl) -> None:
    wrong = OBJECT.replace("cronSpec", "cronspec")
    assert "cronspec" in kubectl("create", "-f", "-", stdin=wrong, code=1)


@pytest.mark.usefixtures("defined")
def test_a_definition_is_found_and_explained(admin: Kubectl) -> None:
    assert "crontabs" in admin("api-resources", f"--api-group={GROUP}")
    assert f"{GROUP}/v1" in admin("api-versions").splitlines()
    told = admin("explain", "crontab.spec")
    assert "cronSpec\t<string>" in told
    assert "When it is done." in told


def test_built_in_kinds_are_explained(admin: Kubectl) -> None:
    assert "<[]" in admin("explain", "pods.spec.containers")
    told = admin("explain", "deployments.spec.strategy")
    assert "rollingUpdate" in told
    recursive = admin("explain", "deployment", "--recursive")
    for field in ("replicas\t<integer>", "containerPort\t<integer>", "matchLabels\t<map[string]"):
        assert field in recursive


def test_manifests_are_checked_before_they_are_kept(kubectl: Kubectl) -> None:
    manifest = """
apiVersion: v1
kind: ConfigMap
metadata: {name: wrong}
dota: {a: b}
"""
    assert "dota" in kubectl("create", "-f", "-", stdin=manifest, code=1)
    kubectl("create", "--validate=false", "-f", "-", stdin=manifest)
    assert "data" not in kubectl.json("get", "configmap", "wrong")
