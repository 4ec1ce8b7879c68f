"""Label and field selectors (pure).

Sources: Kubernetes documentation, "Labels and selectors" and "Field selectors"; the label grammar
is that of the API conventions: an optional DNS prefix, a name of at most 63 characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.api.errors import bad_request

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_PREFIX: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
LABEL_KEY: Final = re.compile(rf"(?:(?P<prefix>{_PREFIX})/)?{_NAME}", re.ASCII)
LABEL_VALUE: Final = re.compile(rf"(?:{_NAME})?", re.ASCII)
_TOKEN: Final = re.compile(r"\s*(==|!=|=|!|<|>|\(|\)|,|[^\s=!<>(),]+)", re.ASCII)
_OPERATORS: Final = {"=": "in", "==": "in", "!=": "notin", "<": "<", ">": ">"}
_MAX_LENGTH: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label.

    Attributes:
        key: of the label.
        operator: ``in``, ``notin``, ``exists``, ``missing``, ``<``, ``>``.
        values: that it compares with.
    """

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels meet it."""
        value = labels.get(self.key)
        if self.operator == "exists":
            return value is not None
        if self.operator == "missing":
            return value is None
        if self.operator == "notin":
            # Kubernetes: a label that is absent is in no set of values.
            return value is None or value not in self.values
        if value is None:
            return False
        if self.operator == "in":
            return value in self.values
        try:
            number, bound = int(value), int(next(iter(self.values)))
        except ValueError:
            return False
        return number < bound if self.operator == "<" else number > bound


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Conditions that must all be met; none matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels meet all."""
        return all(requirement.matches(labels) for requirement in self.requirements)


def parse_labels(text: str) -> LabelSelector:
    """Parse the ``labelSelector`` of a request, such as ``app=web,tier in (a, b),!old``.

    Raises:
        ApiError: it is none.
    """
    if len(text) > _MAX_LENGTH:
        raise bad_request(f"labelSelector is longer than {_MAX_LENGTH} characters")
    tokens = _Tokens(text)
    requirements: list[Requirement] = []
    while not tokens.done:
        requirements.append(_requirement(tokens))
        if not tokens.done:
            tokens.expect(",")
            if tokens.done:
                raise tokens.error("a label after the comma")
    return LabelSelector(tuple(requirements))


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector | None:
    """Return the selector of an object's ``selector`` field; None, which matches nothing, for none.

    Args:
        selector: a meta/v1 LabelSelector: ``matchLabels`` and ``matchExpressions``.

    Raises:
        ApiError: an operator is unknown.
    """
    if selector is None:
        return None
    found = [
        Requirement(key, "in", frozenset({value}))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "missing"}
    for expression in selector.get("matchExpressions") or []:
        operator = operators.get(expression.get("operator", ""))
        if operator is None:
            raise bad_request(
                f"{expression.get('operator')!r} is not a valid label selector operator"
            )
        values = frozenset(expression.get("values") or [])
        found.append(Requirement(expression["key"], operator, values))
    return LabelSelector(tuple(found))


class _Tokens:
    """The words of a selector, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._words: list[str] = []
        while self._at < len(text.rstrip()):
            found = _TOKEN.match(text, self._at)
            if found is None:
                raise self.error("a word or an operator")
            self._words.append(found[1])
            self._at = found.end()
        self._words.reverse()

    @property
    def done(self) -> bool:
        return not self._words

    def take(self, wanted: str) -> str:
        if not self._words:
            raise self.error(wanted)
        return self._words.pop()

    def next_is(self, *words: str) -> bool:
        return bool(self._words) and self._words[-1] in words

    def expect(self, word: str) -> None:
        if self.take(repr(word)) != word:
            raise self.error(repr(word))

    def error(self, wanted: str) -> Exception:
        shown = self._text if len(self._text) <= 80 else f"{self._text[:77]}..."
        return bad_request(f"unable to parse requirement: {shown!r}: expected {wanted}")


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.next_is("!"):
        tokens.take("!")
        return Requirement(_key(tokens), "missing")
    key = _key(tokens)
    if tokens.done or tokens.next_is(","):
        return Requirement(key, "exists")
    operator = tokens.take("an operator")
    if operator in ("in", "notin"):
        return Requirement(key, operator, _values(tokens))
    if operator not in _OPERATORS:
        raise tokens.error("one of =, ==, !=, in, notin, <, >")
    value = "" if tokens.done or tokens.next_is(",") else tokens.take("a value")
    if operator in ("<", ">"):
        if not re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
            raise tokens.error(f"an integer after {operator}")
    elif not LABEL_VALUE.fullmatch(value):
        raise tokens.error(f"a label value, not {value!r}")
    return Requirement(key, _OPERATORS[operator], frozenset({value}))


def _key(tokens: _Tokens) -> str:
    key = tokens.take("a label key")
    found = LABEL_KEY.fullmatch(key)
    if found is None or len(found["prefix"] or "") > 253:
        raise tokens.error(f"a label key, not {key!r}")
    return key


def _values(tokens: _Tokens) -> frozenset[str]:
    tokens.expect("(")
    values: set[str] = set()
    while True:
        value = "" if tokens.next_is(",", ")") else tokens.take("a value")
        if not LABEL_VALUE.fullmatch(value):
            raise tokens.error(f"a label value, not {value!r}")
        values.add(value)
        separator = tokens.take("',' or ')'")
        if separator == ")":
            return frozenset(values)
        if separator != ",":
            raise tokens.error("',' or ')'")


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One condition on a field: it has the value, or has it not."""

    path: str
    value: str
    equal: bool


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions that must all be met; none matches everything."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Say whether fields, by path, meet all."""
        return all(
            (fields.get(one.path, "") == one.value) is one.equal for one in self.requirements
        )

    def required(self, path: str) -> str | None:
        """Return the only value of ``path`` that can match, None if there is not just one."""
        for one in self.requirements:
            if one.path == path and one.equal:
                return one.value
        return None


def parse_fields(text: str, known: frozenset[str] | None) -> FieldSelector:
    """Parse the ``fieldSelector`` of a request, such as ``status.phase!=Running``.

    Args:
        text: conditions, separated by commas; a backslash escapes a comma, an equals sign, itself.
        known: the paths that the kind can be selected by; None: any.

    Raises:
        ApiError: it is none, or names another path.
    """
    found: list[FieldRequirement] = []
    for part in _split_escaped(text):
        match = re.match(r"((?:[^\\=!]|\\.)+)(==|!=|=)((?:[^\\=]|\\.)*)\Z", part, re.DOTALL)
        if match is None:
            raise bad_request(
                f"invalid field selector {text!r}: {part!r} is not path=value or path!=value"
            )
        path = _unescape(match[1])
        if known is not None and path not in known:
            raise bad_request(_unknown(path, known))
        found.append(FieldRequirement(path, _unescape(match[3]), match[2] != "!="))
    return FieldSelector(tuple(found))


def _unknown(path: str, known: frozenset[str]) -> str:
    """Say that a kind has no such path, as Kubernetes does for kinds with and without their own."""
    if known <= _OF_ALL:
        listed = ", ".join(f'"{name}"' for name in sorted(_OF_ALL))
        return f'"{path}" is not a known field selector: only {listed}'
    return f"field label not supported: {path}"


_OF_ALL: Final = frozenset(("metadata.name", "metadata.namespace"))


def _split_escaped(text: str) -> list[str]:
    return [part for part in re.findall(r"(?:[^\\,]|\\.)+", text, re.DOTALL) if part]


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
