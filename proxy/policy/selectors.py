"""Label selectors of the API, compiled to be asked often (pure).

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
_FIELDS: Final = frozenset({"matchLabels", "matchExpressions"})
_EXPRESSION_FIELDS: Final = frozenset({"key", "operator", "values"})


class SelectorError(ValueError):
    """A selector that cannot be read; the message says what of it."""


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """A condition on one label.

    Attributes:
        key: of the label.
        operator: In, NotIn, Exists or DoesNotExist.
        values: for the first two, sorted.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels meet it; a label that is absent is in no set of values."""
        value = labels.get(self.key)
        if self.operator == "In":
            return value is not None and value in self.values
        if self.operator == "NotIn":
            return value is None or value not in self.values
        return (value is not None) == (self.operator == "Exists")

    def __str__(self) -> str:
        if self.operator == "In" and len(self.values) == 1:
            return f"{self.key}={self.values[0]}"
        values = f" ({', '.join(self.values)})" if self.values else ""
        return f"{self.key} {self.operator}{values}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that are all to be met; none selects everything. Equal ones compare equal."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels meet all conditions."""
        return all(each.matches(labels) for each in self.requirements)

    def __str__(self) -> str:
        return ", ".join(map(str, self.requirements)) or "all"


def selector_of(value: object) -> Selector:
    """Return the selector that a meta/v1 LabelSelector says.

    Raises:
        SelectorError: it is none, or says something that is not known here.
    """
    if not isinstance(value, dict):
        raise SelectorError(f"a selector is an object, not {value!r}")
    if unknown := value.keys() - _FIELDS:
        raise SelectorError(f"unknown field {min(unknown)!r} of a selector")
    labels = value.get("matchLabels") or {}
    if not isinstance(labels, dict) or not _are_texts([*labels, *labels.values()]):
        raise SelectorError("matchLabels is no map of texts")
    found = {Requirement(key, "In", (text,)) for key, text in labels.items()}
    expressions = value.get("matchExpressions") or []
    if not isinstance(expressions, list):
        raise SelectorError("matchExpressions is no list")
    found.update(_requirement(each) for each in expressions)
    return Selector(tuple(sorted(found)))


def _requirement(value: Any) -> Requirement:
    if not isinstance(value, dict) or not isinstance(value.get("key"), str) or not value["key"]:
        raise SelectorError(f"no key in {value!r}")
    if unknown := value.keys() - _EXPRESSION_FIELDS:
        raise SelectorError(f"unknown field {min(unknown)!r} of matchExpressions")
    operator, values = value.get("operator"), value.get("values") or []
    if operator not in _OPERATORS:
        raise SelectorError(f"{operator!r} is no operator of a label selector")
    if not isinstance(values, list) or not _are_texts(values):
        raise SelectorError("values are no texts")
    if bool(values) != (operator in ("In", "NotIn")):
        raise SelectorError(f"operator {operator} {'without' if not values else 'with'} values")
    return Requirement(value["key"], operator, tuple(sorted(set(values))))


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(each, str) for each in values)
