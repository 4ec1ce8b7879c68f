"""Validation of requests and limits (pure)."""

from __future__ import annotations

from .container import ResourceRequirements
from .fields import Errors, is_qualified_name
from .quantity import Quantity

_STANDARD = ("cpu", "memory", "ephemeral-storage")
_HUGEPAGES = "hugepages-"


def validate_resources(path: str, resources: ResourceRequirements, errors: Errors) -> None:
    """Check names and amounts, and that no request exceeds its limit."""
    for kind, amounts in (("limits", resources.limits), ("requests", resources.requests)):
        for name, amount in amounts.items():
            _validate_amount(f"{path}.{kind}[{name}]", name, amount, errors)
    for name, request in resources.requests.items():
        limit = resources.limits.get(name)
        where = f"{path}.requests"
        if limit is not None and request > limit:
            errors.invalid(
                where, str(request), f"must be less than or equal to {name} limit of {limit}"
            )
        elif limit is not None and not _overcommittable(name) and request != limit:
            errors.invalid(where, str(request), f"must be equal to {name} limit of {limit}")
        elif limit is None and not _overcommittable(name):
            errors.required(f"{path}.limits", "Limit must be set for non overcommitable resources")


def _validate_amount(path: str, name: str, amount: Quantity, errors: Errors) -> None:
    standard = name in _STANDARD or name.startswith(_HUGEPAGES)
    if not is_qualified_name(name) or ("/" not in name and not standard):
        errors.invalid(
            path, name, "must be a standard resource type or fully qualified (domain/name)"
        )
    if amount < Quantity(0):
        errors.invalid(path, str(amount), "must be greater than or equal to 0")
    if (name == "memory" or "/" in name or name.startswith(_HUGEPAGES)) and (
        amount.value.denominator != 1
    ):
        errors.invalid(path, str(amount), "must be an integer")
    if name == "cpu" and (amount.value * 1000).denominator != 1:
        errors.invalid(path, str(amount), "must not be finer than a thousandth of a CPU")


def _overcommittable(name: str) -> bool:
    return name in _STANDARD
