"""Pods, good and bad, and what a Kubernetes 1.36 API server says to them.

``pod_facts.json`` holds one pod a line: what its spec becomes by the defaults and its class of
quality, or which fields are wrong and for which reason. Every pod has the labels ``app: web`` and
``tier: x`` and the service account ``default``; what other checks of a server add is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.api.resource import Context
from controlplane.kinds.strategies.pods.strategy import PodStrategy
from controlplane.kinds.types import builtin_types

FACTS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "pod_facts.json").read_text("utf-8")
)


@pytest.mark.parametrize("fact", FACTS, ids=[fact["name"] for fact in FACTS])
def test_a_pod_is_taken_as_kubernetes_takes_it(fact: dict[str, Any]) -> None:
    types, strategy = builtin_types(), PodStrategy()
    meta = {"name": "p", "namespace": "n", "labels": {"app": "web", "tier": "x"}}
    meta |= {key: fact[key] for key in ("annotations", "finalizers") if key in fact}
    pod, unknown = types.clean("core.v1.Pod", {"metadata": meta, "spec": fact["spec"]})
    assert unknown == []
    types.add_defaults("core.v1.Pod", pod)
    strategy.default(pod)
    pod["spec"].setdefault("serviceAccountName", "default")
    strategy.prepare_create(pod, Context())
    causes = strategy.validate(pod, None)
    named = sorted([cause.reason.removeprefix("FieldValue"), cause.field] for cause in causes)
    assert named == fact.get("causes", [])
    if "defaulted" in fact:
        spec = {key: value for key, value in pod["spec"].items() if "serviceAccount" not in key}
        assert spec == fact["defaulted"]
        assert pod["status"]["qosClass"] == fact["quality"]
