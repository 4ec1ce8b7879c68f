"""Errors of fields, and the checks of names that many fields share (pure)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PORT_NAME = re.compile(r"[-a-z0-9]+")
_LABEL_LENGTH = 63
_SUBDOMAIN_LENGTH = 253
_PORT_NAME_LENGTH = 15
_PORTS = 65535

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character, and be at most 63 characters"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character, and be at most 253 characters"
)
QUALIFIED_RULE = (
    "a qualified name must consist of alphanumeric characters, '-', '_' or '.', at most 63, and "
    "must start and end with an alphanumeric character, with an optional DNS subdomain prefix "
    "and '/'"
)

REQUIRED = "Required value"
INVALID = "Invalid value"
DUPLICATE = "Duplicate value"
UNSUPPORTED = "Unsupported value"
FORBIDDEN = "Forbidden"
NOT_HONOURED = "not supported yet by this kubelet"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field.

    Attributes:
        path: the field, as ``spec.containers[0].image``.
        reason: Required value, Invalid value, Duplicate value, Unsupported value, Forbidden, or
            "not supported yet by this kubelet".
        value: the bad value, "" where there is none to show.
        detail: more words.
    """

    path: str
    reason: str
    value: str = ""
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.reason}"
        if self.value:
            text += f": {self.value}"
        if self.detail:
            text += f": {self.detail}"
        return text


class Errors:
    """Collects field errors."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    def required(self, path: str, detail: str = "") -> None:
        """A field that must be set is not."""
        self.found.append(FieldError(path, REQUIRED, "", detail))

    def invalid(self, path: str, value: object, detail: str) -> None:
        """A value does not have the form it needs."""
        self.found.append(FieldError(path, INVALID, _show(value), detail))

    def duplicate(self, path: str, value: object) -> None:
        """A value that must be unique is not."""
        self.found.append(FieldError(path, DUPLICATE, _show(value)))

    def unsupported(self, path: str, value: object, allowed: Iterable[str]) -> None:
        """A value is not one of those allowed."""
        listed = ", ".join(f'"{each}"' for each in sorted(allowed))
        self.found.append(
            FieldError(path, UNSUPPORTED, _show(value), f"supported values: {listed}")
        )

    def forbidden(self, path: str, detail: str) -> None:
        """A field may not be set here."""
        self.found.append(FieldError(path, FORBIDDEN, "", detail))

    def one_of(self, path: str, value: str, allowed: Sequence[str]) -> None:
        """Check a value of an enumeration; empty is a missing one."""
        if not value:
            self.required(path)
        elif value not in allowed:
            self.unsupported(path, value, allowed)

    def label(self, path: str, value: str) -> None:
        """Check a required DNS-1123 label."""
        if not value:
            self.required(path)
        elif not is_label(value):
            self.invalid(path, value, LABEL_RULE)

    def subdomain(self, path: str, value: str) -> None:
        """Check a required DNS-1123 subdomain."""
        if not value:
            self.required(path)
        elif not is_subdomain(value):
            self.invalid(path, value, SUBDOMAIN_RULE)

    def qualified(self, path: str, value: str) -> None:
        """Check a required qualified name, as keys of labels are."""
        if not value:
            self.required(path)
        elif not is_qualified_name(value):
            self.invalid(path, value, QUALIFIED_RULE)

    def port(self, path: str, value: int) -> None:
        """Check a required port number."""
        if not 1 <= value <= _PORTS:
            self.invalid(path, value, "must be between 1 and 65535, inclusive")

    def not_negative(self, path: str, value: int | None) -> None:
        """Check a number that may be absent."""
        if value is not None and value < 0:
            self.invalid(path, value, "must be greater than or equal to 0")

    def at_least_one(self, path: str, value: int | None) -> None:
        """Check a number that may be absent."""
        if value is not None and value < 1:
            self.invalid(path, value, "must be greater than 0")

    def address(self, path: str, value: str) -> None:
        """Check an IP address."""
        try:
            ipaddress.ip_address(value)
        except ValueError:
            self.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::1)")

    def text(self, path: str, value: str) -> None:
        """Check what is handed to the kernel as a C string."""
        if "\0" in value:
            self.invalid(path, value, "must not contain a NUL character")

    def unique(self, path: str, values: Sequence[str], leaf: str = "") -> None:
        """Report each later one of equal, not empty values of a list."""
        seen: set[str] = set()
        for index, value in enumerate(values):
            if value and value in seen:
                self.duplicate(f"{path}[{index}]{leaf}", value)
            seen.add(value)


def is_label(value: str) -> bool:
    """Whether ``value`` is a DNS-1123 label."""
    return len(value) <= _LABEL_LENGTH and _LABEL.fullmatch(value) is not None


def is_subdomain(value: str) -> bool:
    """Whether ``value`` is a DNS-1123 subdomain."""
    return len(value) <= _SUBDOMAIN_LENGTH and _SUBDOMAIN.fullmatch(value) is not None


def is_qualified_name(value: str) -> bool:
    """Whether ``value`` is a name with an optional DNS prefix, as keys of labels are."""
    prefix, slash, name = value.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= _LABEL_LENGTH and _QUALIFIED.fullmatch(name) is not None


def is_label_value(value: str) -> bool:
    """Whether ``value`` can be the value of a label."""
    return not value or (len(value) <= _LABEL_LENGTH and _QUALIFIED.fullmatch(value) is not None)


def is_port_name(value: str) -> bool:
    """Whether ``value`` is an IANA service name: a letter, no dash at the ends or doubled."""
    return (
        len(value) <= _PORT_NAME_LENGTH
        and _PORT_NAME.fullmatch(value) is not None
        and any(character.isalpha() for character in value)
        and value[0] != "-" != value[-1]
        and all(pair != ("-", "-") for pair in pairwise(value))
    )


def stays_inside(path: str) -> bool:
    """Whether a relative path has no ``..`` and is not absolute."""
    return not path.startswith("/") and ".." not in path.split("/")


def _show(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
