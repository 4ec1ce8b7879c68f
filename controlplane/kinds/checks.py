"""Checks of fields that many kinds have: numbers, names, selectors, what may not change (pure).

The reasons and the paths are Kubernetes' own, for clients compare with them; the words are not.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final

from controlplane.api import metadata
from controlplane.api.errors import ApiError, Cause
from controlplane.api.formats import (
    label_key_problems,
    label_problems,
    label_value_problems,
    port_name_problems,
    subdomain_problems,
)
from controlplane.api.metadata import (
    check_labels,
    duplicate,
    forbidden,
    path_problems,
    required,
    too_long,
    unsupported,
    wrong,
)
from controlplane.api.resource import Object
from controlplane.api.selectors import from_object

IntOrPercent = int | str
"""A number of something, or a share of all of it such as ``25%``."""

_PERCENT: Final = re.compile(r"[0-9]+%", re.ASCII)
_PATH: Final = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", re.ASCII)


def is_same(one: Any, other: Any) -> bool:
    """Say whether two values mean the same: what is absent is as an empty word or list, or false.

    An empty object is something else than none: it may mean everything.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return all(is_same(one.get(key), other.get(key)) for key in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other) or (_is_nothing(one) and _is_nothing(other))


def _is_nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [])


def check_immutable(value: Any, old: Any, path: str) -> list[Cause]:
    """Refuse a change of a field."""
    return [] if is_same(value, old) else [metadata.immutable(path, value)]


def check_not_negative(value: Object, path: str, *keys: str) -> list[Cause]:
    """Refuse numbers below 0 in fields of ``value``; absent ones are good."""
    return [
        wrong(f"{path}.{key}", value[key], "must be greater than or equal to 0")
        for key in keys
        if value.get(key, 0) < 0
    ]


def check_one_of(value: Any, path: str, known: Iterable[str]) -> list[Cause]:
    """Refuse a word that is none of those known."""
    return [] if value in known else [unsupported(path, value, sorted(known))]


def check_required_one_of(value: Any, path: str, known: Iterable[str]) -> list[Cause]:
    """Refuse an absent word, and one that is none of those known."""
    return check_one_of(value, path, known) if value else [required(path)]


def check_unique(values: Iterable[Any], path: str) -> list[Cause]:
    """Refuse items of a list that were there before."""
    seen: list[Any] = []
    causes: list[Cause] = []
    for index, value in enumerate(values):
        if value in seen:
            causes.append(duplicate(f"{path}[{index}]", value))
        seen.append(value)
    return causes


def check_dns_label(value: str, path: str) -> list[Cause]:
    """Refuse what is no RFC 1123 label."""
    return [wrong(path, value, why) for why in label_problems(value)]


def check_dns_subdomain(value: str, path: str) -> list[Cause]:
    """Refuse what is no RFC 1123 subdomain."""
    return [wrong(path, value, why) for why in subdomain_problems(value)]


def check_path_segment(value: str, path: str) -> list[Cause]:
    """Refuse what is absent, or cannot be one part of a path."""
    if not value:
        return [required(path)]
    return [wrong(path, value, why) for why in path_problems(value)]


def check_qualified_name(value: str, path: str) -> list[Cause]:
    """Refuse what is no ``[prefix/]name`` as label keys are."""
    return [wrong(path, value, why) for why in label_key_problems(value)]


def check_domain_path(value: str, path: str) -> list[Cause]:
    """Refuse what is no path below a domain, such as ``acme.io/foo``."""
    if not value:
        return [required(path)]
    host, _, rest = value.partition("/")
    if not host or not rest:
        return [wrong(path, value, "must be a path below a domain, such as acme.io/foo")]
    causes = check_dns_subdomain(host, path)
    if not _PATH.fullmatch(rest):
        causes.append(wrong(path, rest, "is no path"))
    return causes


def check_port(value: int, path: str) -> list[Cause]:
    """Refuse what is no port number."""
    return [] if 0 < value < 65536 else [wrong(path, value, "must be between 1 and 65535")]


def check_port_name(value: str, path: str) -> list[Cause]:
    """Refuse what is no name of a port (RFC 6335)."""
    return [wrong(path, value, why) for why in port_name_problems(value)]


def check_int_or_percent(value: IntOrPercent, path: str) -> list[Cause]:
    """Refuse what is neither a number from 0 on nor a percentage."""
    if isinstance(value, str):
        text = "must be a number followed by '%'"
        return [] if _PERCENT.fullmatch(value) else [wrong(path, value, text)]
    text = "must be greater than or equal to 0"
    return [] if value >= 0 else [wrong(path, value, text)]


def check_share(value: IntOrPercent, path: str) -> list[Cause]:
    """Refuse percentages above 100."""
    if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1]) > 100:
        return [wrong(path, value, "must not be greater than 100%")]
    return []


def amount(value: IntOrPercent) -> int:
    """Return the number of a number or a percentage; 0 if it is none."""
    if isinstance(value, str):
        found = re.fullmatch(r"([+-]?[0-9]+)%?", value, re.ASCII)
        return int(found[1]) if found else 0
    return value


def is_ip(value: str) -> bool:
    """Say whether it is an IP address, as liberally as Go reads it (leading zeros in IPv4)."""
    try:
        ipaddress.ip_address(re.sub(r"(^|\.)0+(?=\d)", r"\1", value))
    except ValueError:
        return False
    return True


def check_wildcard(value: str, path: str) -> list[Cause]:
    """Refuse what is no ``*.`` before a DNS subdomain."""
    if value.startswith("*.") and not subdomain_problems(value[2:]):
        return []
    return [wrong(path, value, "must be '*.' and a DNS subdomain")]


def check_selector(selector: Object | None, path: str) -> list[Cause]:
    """Return what is wrong with a meta/v1 LabelSelector."""
    if selector is None:
        return []
    causes = check_labels(selector.get("matchLabels", {}), f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions", ())):
        causes += _check_expression(expression, f"{path}.matchExpressions[{index}]")
    return causes


def _check_expression(expression: Object, path: str) -> list[Cause]:
    operator, values = expression.get("operator", ""), expression.get("values", ())
    causes: list[Cause] = []
    if operator in ("In", "NotIn"):
        if not values:
            causes.append(required(f"{path}.values", "needed by the operators In and NotIn"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be there with the operators Exists and DoesNotExist"
            causes.append(forbidden(f"{path}.values", text))
    else:
        causes.append(wrong(f"{path}.operator", operator, "not a valid selector operator"))
    causes += check_qualified_name(expression.get("key", ""), f"{path}.key")
    return causes + [
        wrong(f"{path}.values[{index}]", value, why)
        for index, value in enumerate(values)
        for why in label_value_problems(value)
    ]


def is_empty_selector(selector: Object) -> bool:
    """Say whether a meta/v1 LabelSelector has no conditions."""
    return not selector.get("matchLabels") and not selector.get("matchExpressions")


def matches(selector: Object | None, labels: Object) -> bool | None:
    """Say whether labels meet a meta/v1 LabelSelector; None: it is none that can be asked."""
    try:
        found = from_object(selector)
    except ApiError:
        return None
    if selector is not None and check_selector(selector, ""):
        return None
    return found is not None and found.matches(labels)


def check_conditions(conditions: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with meta/v1 Conditions."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, one in enumerate(conditions):
        here = f"{path}[{index}]"
        kind = one.get("type", "")
        if kind in seen:
            causes.append(duplicate(f"{here}.type", kind))
        seen.add(kind)
        causes += check_qualified_name(kind, f"{here}.type") if kind else []
        causes += [] if kind else [required(f"{here}.type", "must be set")]
        known = ("True", "False", "Unknown")
        causes += check_one_of(one.get("status", ""), f"{here}.status", known)
        causes += check_not_negative(one, here, "observedGeneration")
        if not one.get("lastTransitionTime"):
            causes.append(required(f"{here}.lastTransitionTime", "must be set"))
        reason = one.get("reason", "")
        if not reason:
            causes.append(required(f"{here}.reason", "must be set"))
        elif not re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", reason, re.ASCII):
            causes.append(wrong(f"{here}.reason", reason, "must begin with a letter"))
        if len(one.get("message", "")) > 32768:
            causes.append(too_long(f"{here}.message", 32768))
    return causes
