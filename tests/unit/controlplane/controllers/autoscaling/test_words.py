"""Selectors in requests and in messages, and answers of metrics APIs."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.controllers.autoscaling.metrics import used
from controlplane.controllers.autoscaling.pods import CalculationError
from controlplane.controllers.autoscaling.proposals import Proposal, largest, query_of, text_of

IN = {"key": "b", "operator": "In", "values": ["y", "x"]}


@pytest.mark.parametrize(
    ("selector", "query", "text"),
    [
        (None, "", "nil"),
        ({}, "", "&LabelSelector{MatchLabels:map[string]string{},"
                 "MatchExpressions:[]LabelSelectorRequirement{},}"),
        ({"matchLabels": {"c": "d", "a": "1"}, "matchExpressions": [IN]}, "a=1,b in (x,y),c=d",
         "&LabelSelector{MatchLabels:map[string]string{a: 1,c: d,},"
         "MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:b,Operator:In,"
         "Values:[y x],},},}"),
    ],
)  # fmt: skip
def test_selectors(selector: Any, query: str, text: str) -> None:
    assert query_of(selector) == query
    assert text_of(selector) == text


def test_other_operators() -> None:
    found = query_of({"matchExpressions": [
        {"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"},
        {"key": "c", "operator": "NotIn", "values": ["1"]}]})  # fmt: skip
    assert found == "a,!b,c notin (1)"
    with pytest.raises(CalculationError, match='"Near" is not a valid label selector operator'):
        query_of({"matchExpressions": [{"key": "a", "operator": "Near"}]})


@pytest.mark.parametrize(
    ("containers", "container", "wanted"),
    [
        ([{"name": "a", "usage": {"cpu": "250m"}}, {"name": "b", "usage": {"cpu": "1"}}], "", 1250),
        ([{"name": "a", "usage": {"cpu": "250m"}}, {"name": "b", "usage": {"cpu": "1"}}], "a", 250),
        ([{"name": "a", "usage": {"cpu": "250m"}}, {"name": "b", "usage": {}}], "", None),
        ([{"name": "a", "usage": {"cpu": "250m"}}], "other", None),
        ([{"name": "a", "usage": {"cpu": "much"}}], "", None),
        ([{"name": "a", "usage": {"cpu": "1234567n"}}], "", 2),
        ([], "", None),
        (None, "", None),
    ],
)
def test_what_a_pod_uses(containers: Any, container: str, wanted: int | None) -> None:
    assert used({"containers": containers}, "cpu", container) == wanted


def test_the_largest_proposal_counts() -> None:
    def of(*numbers: int) -> str:
        return largest([Proposal(number, str(n), {}) for n, number in enumerate(numbers)]).name

    assert of(1, 3, 2) == "1"
    assert of(3, 3) == "0"
    assert of(0, 0) == "1"
