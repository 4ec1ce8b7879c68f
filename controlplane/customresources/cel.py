"""CEL by the library ``cel-python``, bounded, with the functions that Kubernetes adds.

Source: Kubernetes documentation, "Common Expression Language in Kubernetes": lists, regex, strings,
URLs, quantities.
"""

from __future__ import annotations

import logging
from functools import cache
from itertools import pairwise
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import lark
import re2
from celpy import Environment, celtypes
from celpy.celparser import CELParseError
from celpy.evaluation import Activation, CELEvalError, Evaluator, base_functions

from controlplane.kinds.quantity import QuantityError, parse

_MAX_LENGTH: Final = 64 << 10
# Macros, which are no functions to the library.
_MACROS: Final = frozenset({"has", "all", "exists", "exists_one", "map", "filter", "dyn"})
_VARIABLES: Final = frozenset({"self", "oldSelf"})


class CelError(ValueError):
    """An expression is none, or fails."""


class _BoundedError(Exception):
    pass


class Expression:
    """A compiled expression."""

    def __init__(self, ast: lark.Tree[Any]) -> None:
        self._ast = ast

    def evaluate(self, known: dict[str, Any], budget: list[int]) -> Any:
        """Return its value.

        Args:
            known: variables.
            budget: steps that are left; used up by this.

        Raises:
            CelError: it fails, or takes more steps than are left.
        """
        activation = Activation(functions=functions())
        try:
            value = _Bounded(self._ast, activation, budget).evaluate(known)
        except _BoundedError:
            raise CelError("it takes too many steps; put bounds on lists and maps") from None
        except CELEvalError as error:
            raise CelError(str(error.args[0]) if error.args else "failed") from error
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError,
                ArithmeticError, lark.exceptions.LarkError) as error:  # fmt: skip
            raise CelError(f"{type(error).__name__}: {error}") from error
        if isinstance(value, celtypes.BoolType):
            return bool(value)
        return str(value) if isinstance(value, celtypes.StringType) else value


class _Bounded(Evaluator):
    """Counts the steps, so that no expression holds the server up."""

    def __init__(self, ast: Any, activation: Activation, budget: list[int]) -> None:
        super().__init__(ast, activation)
        self._budget = budget

    def sub_evaluator(self, ast: Any) -> Evaluator:
        return _Bounded(ast, self.activation, self._budget)

    def _visit_tree(self, tree: Any) -> Any:
        self._budget[0] -= 1
        if self._budget[0] < 0:
            raise _BoundedError
        return super()._visit_tree(tree)


@cache
def _environment() -> Environment:
    logging.getLogger("celpy").setLevel(logging.ERROR)
    return Environment()


def compile_expression(text: str) -> Expression:
    """Return an expression ready to be evaluated.

    Raises:
        CelError: it is none, or names functions or variables that are not there.
    """
    if len(text) > _MAX_LENGTH:
        raise CelError(f"longer than {_MAX_LENGTH} characters")
    try:
        ast = _environment().compile(text)
    except CELParseError as error:
        raise CelError(f"Syntax error: {' '.join(str(error.args[0]).split())}") from error
    except RecursionError as error:
        raise CelError("nested too deep") from error
    for name in _called(ast):
        if name not in functions() and name not in base_functions and name not in _MACROS:
            raise CelError(f"undeclared reference to '{name}'")
    return Expression(ast)


def _called(ast: lark.Tree[Any]) -> set[str]:
    """Return the names of functions and methods that an expression calls."""
    found: set[str] = set()
    for tree in ast.iter_subtrees():
        if tree.data == "ident_arg":
            found.add(str(tree.children[0]))
        elif tree.data == "member_dot_arg":
            found.add(str(tree.children[1]))
    return found


def plain(value: Any) -> Any:
    """Return decoded JSON in the types of CEL."""
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, int):
        return celtypes.IntType(value)
    if isinstance(value, float):
        return celtypes.DoubleType(value)
    if isinstance(value, str):
        return celtypes.StringType(value)
    if isinstance(value, list):
        return celtypes.ListType([plain(item) for item in value])
    if isinstance(value, dict):
        return celtypes.MapType({celtypes.StringType(k): plain(v) for k, v in value.items()})
    return None


def _texts(found: Any) -> Any:
    return celtypes.ListType([celtypes.StringType(one) for one in found])


def _index(value: Any, wanted: Any) -> Any:
    if isinstance(value, celtypes.ListType):
        return celtypes.IntType(value.index(wanted) if wanted in value else -1)
    return celtypes.IntType(str(value).find(str(wanted)))


def _last_index(value: Any, wanted: Any) -> Any:
    if isinstance(value, celtypes.ListType):
        places = [number for number, one in enumerate(value) if one == wanted]
        return celtypes.IntType(places[-1] if places else -1)
    return celtypes.IntType(str(value).rfind(str(wanted)))


def _substring(value: Any, start: Any, end: Any = None) -> Any:
    stop = len(value) if end is None else int(end)
    if not 0 <= int(start) <= stop <= len(value):
        raise CelError("index out of range")
    return celtypes.StringType(str(value)[int(start) : stop])


def _replace(value: Any, old: Any, new: Any, limit: Any = -1) -> Any:
    return celtypes.StringType(str(value).replace(str(old), str(new), int(limit)))


def _split(value: Any, separator: Any, limit: Any = -1) -> Any:
    text, count = str(value), int(limit)
    if count == 0:
        return celtypes.ListType([])
    if not str(separator):
        return _texts(text)
    return _texts(text.split(str(separator), count - 1 if count > 0 else -1))


def _join(value: Any, separator: Any = "") -> Any:
    return celtypes.StringType(str(separator).join(str(one) for one in value))


def _find(value: Any, pattern: Any) -> Any:
    found = re2.search(str(pattern), str(value))
    return celtypes.StringType(found[0] if found else "")


def _find_all(value: Any, pattern: Any, limit: Any = -1) -> Any:
    found = [one[0] for one in re2.finditer(str(pattern), str(value))]
    return _texts(found if int(limit) < 0 else found[: int(limit)])


def _sum(value: Any) -> Any:
    total = value[0] if value else celtypes.IntType(0)
    for one in value[1:]:
        total = total + one
    return total


def _is_sorted(value: Any) -> Any:
    return celtypes.BoolType(all(one <= other for one, other in pairwise(value)))


def _distinct(value: Any) -> Any:
    found: list[Any] = []
    for one in value:
        if one not in found:
            found.append(one)
    return celtypes.ListType(found)


def _url(value: Any) -> SplitResult:
    parts = urlsplit(str(value))
    if not parts.scheme and not str(value).startswith("/"):
        raise CelError(f"URL parse error: {value}")
    return parts


def _is_url(value: Any) -> Any:
    try:
        _url(value)
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType(True)


def _port(parts: SplitResult) -> Any:
    return celtypes.StringType("" if parts.port is None else str(parts.port))


def _is_ip(value: Any) -> Any:
    from ipaddress import ip_address

    try:
        ip_address(str(value))
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType(True)


def _is_cidr(value: Any) -> Any:
    from ipaddress import ip_network

    try:
        ip_network(str(value), strict=False)
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType("/" in str(value))


def _quantity(value: Any) -> Any:
    return parse(str(value))


def _is_quantity(value: Any) -> Any:
    try:
        parse(str(value))
    except QuantityError:
        return celtypes.BoolType(False)
    return celtypes.BoolType(True)


@cache
def functions() -> dict[str, Any]:
    """Return the functions that Kubernetes has beyond those of CEL."""
    text, true = celtypes.StringType, celtypes.BoolType
    return {
        "charAt": lambda value, at: _substring(value, at, min(int(at) + 1, len(value))),
        "indexOf": _index, "lastIndexOf": _last_index,
        "lowerAscii": lambda value: text(str(value).lower()),
        "upperAscii": lambda value: text(str(value).upper()),
        "trim": lambda value: text(str(value).strip()),
        "substring": _substring, "replace": _replace, "split": _split, "join": _join,
        "find": _find, "findAll": _find_all,
        "sum": _sum, "min": min, "max": max, "isSorted": _is_sorted, "distinct": _distinct,
        "url": _url, "isURL": _is_url,
        "getScheme": lambda parts: text(parts.scheme), "getHost": lambda parts: text(parts.netloc),
        "getHostname": lambda parts: text(parts.hostname or ""), "getPort": _port,
        "getEscapedPath": lambda parts: text(parts.path),
        "isIP": _is_ip, "isCIDR": _is_cidr,
        "quantity": _quantity, "isQuantity": _is_quantity,
        "isGreaterThan": lambda one, other: true(one > other),
        "isLessThan": lambda one, other: true(one < other),
        "compareTo": lambda one, other: celtypes.IntType((one > other) - (one < other)),
    }  # fmt: skip
