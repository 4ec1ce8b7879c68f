from __future__ import annotations

from typing import Any

import pytest

from controlplane.kinds.strategies import STRATEGIES


@pytest.mark.parametrize(
    ("kind", "status", "fields"),
    [
        ("/replicationcontrollers", {"replicas": 2}, {"status.replicas": "2"}),
        ("/replicationcontrollers", {}, {"status.replicas": "0"}),
        ("batch/jobs", {"succeeded": 3}, {"status.successful": "3"}),
        ("apps/replicasets", {"replicas": 2}, {}),
        ("apps/statefulsets", {"replicas": 2}, {}),
        ("/persistentvolumes", {"phase": "Bound"}, {}),
        ("/persistentvolumeclaims", {"phase": "Bound"}, {}),
    ],
)
def test_what_field_selectors_can_ask_for(
    kind: str, status: dict[str, Any], fields: dict[str, str]
) -> None:
    strategy = STRATEGIES[kind]
    assert strategy.fields({"metadata": {"name": "a"}, "status": status}) == fields
    assert strategy.selectable == frozenset(fields)
