"""Formats of names, keys and numbers, and what is told to whom they are broken (pure).

Source: Kubernetes, apimachinery, util/validation and api/validate/content: patterns, lengths and
the sentences, which clients and their tests compare.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_LOOSE: Final = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_LABEL_1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_SUBDOMAIN_LOOSE: Final = rf"{_LABEL_LOOSE}(\.{_LABEL_LOOSE})*"
_KEY: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE: Final = f"({_KEY})?"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
_HEADER: Final = "[-A-Za-z0-9]+"
_ENDS: Final = "and must start and end with an alphanumeric character"


def label_problems(text: str) -> list[str]:
    """Say what keeps it from being an RFC 1123 label; nothing if it is one."""
    found = _too_long(text, 63)
    if not _matches(_LABEL, text) and _matches(_SUBDOMAIN, text):
        found.append("must not contain dots")
    elif not _matches(_LABEL, text):
        why = (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            f"{_ENDS}"
        )
        found.append(pattern(why, _LABEL, "my-name", "123-abc"))
    return found


def label_1035_problems(text: str) -> list[str]:
    """Say what keeps it from being an RFC 1035 label, as names of services are."""
    found = _too_long(text, 63)
    if not _matches(_LABEL_1035, text):
        why = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start "
            "with an alphabetic character, and end with an alphanumeric character"
        )
        found.append(pattern(why, _LABEL_1035, "my-name", "abc-123"))
    return found


def subdomain_problems(text: str, *, underscores: bool = False) -> list[str]:
    """Say what keeps it from being an RFC 1123 subdomain.

    Args:
        text: to look at.
        underscores: labels may have them, as search domains may.
    """
    found = _too_long(text, 253)
    expression = _SUBDOMAIN_LOOSE if underscores else _SUBDOMAIN
    if not _matches(expression, text):
        listed = "'_', '-' or '.'" if underscores else "'-' or '.'"
        why = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
            f"{listed}, {_ENDS}"
        )
        found.append(pattern(why, expression, "example.com"))
    return found


def label_key_problems(text: str) -> list[str]:
    """Say what keeps it from being the key of a label: a qualified name."""
    why = f"must consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
    shape = pattern(why, _KEY, "MyName", "my.name", "123-abc")
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        hint = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a valid label key {shape}{hint}"]
    found: list[str] = []
    if slash and not prefix:
        found.append("prefix part must be non-empty")
    elif slash:
        found += [f"prefix part {problem}" for problem in subdomain_problems(prefix)]
    if not name:
        found.append("name part must be non-empty")
    found += [f"name part {problem}" for problem in _too_long(name, 63, "bytes")]
    if not _matches(_KEY, name):
        found.append(f"name part {shape}")
    return found


def label_value_problems(text: str) -> list[str]:
    """Say what keeps it from being the value of a label."""
    found = _too_long(text, 63, "bytes")
    if not _matches(_VALUE, text):
        why = (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', "
            f"'_' or '.', {_ENDS}"
        )
        found.append(pattern(why, _VALUE, "MyValue", "my_value", "12345"))
    return found


def config_key_problems(text: str) -> list[str]:
    """Say what keeps it from being a key of a ConfigMap or a Secret."""
    found = _too_long(text, 253)
    if not _matches(_CONFIG_KEY, text):
        why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        found.append(pattern(why, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if text in (".", ".."):
        found.append(f"must not be '{text}'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found


def env_name_problems(text: str) -> list[str]:
    """Say what keeps it from being the name of an environment variable."""
    found = [] if text else ["environment variable name must be non-empty"]
    if not all(" " <= character <= "~" and character != "=" for character in text):
        found.append(
            "a valid environment variable name must consist only of printable ASCII characters "
            "other than '='"
        )
    return found


def header_problems(text: str) -> list[str]:
    """Say what keeps it from being the name of an HTTP header."""
    if _matches(_HEADER, text):
        return []
    why = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [pattern(why, _HEADER, "X-Header-Name")]


def port_name_problems(text: str) -> list[str]:
    """Say what keeps it from being the name of a port (IANA service name, RFC 6335)."""
    found = _too_long(text, 15)
    if not _matches("[-a-z0-9]+", text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def range_problems(number: int, low: int, high: int) -> list[str]:
    """Say that a number is not within bounds, both of which are good."""
    return [] if low <= number <= high else [f"must be between {low} and {high}, inclusive"]


def decimal_problems(text: str) -> list[str]:
    """Say what keeps it from being an integer as people write one, in 64 bits."""
    if not text:
        return ["must be non-empty", f'strconv.ParseInt: parsing "{text}": invalid syntax']
    found: list[str] = []
    if not _matches("-?[1-9][0-9]*|0", text):
        found.append("must be a valid decimal integer in canonical form")
    if not _matches("[+-]?[0-9]+", text):
        found.append(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    elif len(text) > 40 or not -(1 << 63) <= int(text) < 1 << 63:
        found.append(f'strconv.ParseInt: parsing "{text}": value out of range')
    return found


def ip_problems(text: str) -> list[str]:
    """Say what keeps it from being an IP address that everybody reads in one way."""
    plain = ".".join(str(int(p)) if _matches("0+[0-9]+", p) else p for p in text.split("."))
    try:
        address = ipaddress.ip_address(plain if ":" not in text else text)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    if "%" in text:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    found = [] if plain == text or ":" in text else ["must not have leading 0s"]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        found.append("must not be an IPv4-mapped IPv6 address")
    return found


def pattern(why: str, expression: str, *examples: str) -> str:
    """Return the sentence for a text that a pattern does not match."""
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{why} (e.g. {shown}regex used for validation is '{expression}')"


def _too_long(text: str, most: int, unit: str = "characters") -> list[str]:
    return [f"must be no more than {most} {unit}"] if len(text.encode()) > most else []


def _matches(expression: str, text: str) -> bool:
    return re.fullmatch(expression, text, re.ASCII) is not None
