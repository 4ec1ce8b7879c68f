"""Files of environment variables, as ``fileKeyRef`` reads them (KEP-3721; pure).

One variable a line, ``NAME='value'``; the value, in single quotes, is taken as it is and may
span lines. Blank lines and comments (``#``) are skipped; a comment may follow the closing quote.
"""

from __future__ import annotations


class EnvFileError(Exception):
    """The file is not of this form; the message names the line."""


def parse(text: str, key: str) -> str:
    """Return the value of ``key``, "" if the file does not have it; the first one counts.

    Raises:
        EnvFileError: a line up to that of ``key`` is wrong.
    """
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    number = 0
    while number < len(lines):
        line = lines[number].removesuffix("\r").lstrip(" \t")
        number += 1
        if not line or line.startswith("#"):
            continue
        name, value = _split(line, number)
        if value[:1] in (" ", "\t"):
            # As a shell has it: the variable is empty.
            if name == key:
                return ""
            continue
        if not value.startswith("'"):
            raise _error(number, "value must be enclosed in single quotes")
        content, number = _quoted(lines, number, value[1:])
        if name == key:
            return content
    return ""


def _split(line: str, number: int) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals:
        raise _error(number, "missing '='")
    if not name.rstrip(" \t"):
        raise _error(number, "empty variable name")
    if name != name.rstrip(" \t"):
        raise _error(number, "whitespace before '=' is not allowed")
    return name, value


def _quoted(lines: list[str], number: int, rest: str) -> tuple[str, int]:
    """Return the value whose opening quote was read, and how many lines are read by then."""
    begun, parts = number, []
    while "'" not in rest:
        parts.append(rest)
        if number == len(lines):
            raise EnvFileError(
                f"invalid environment variable format starting at line {begun}: "
                "unclosed single quote"
            )
        rest = lines[number].removesuffix("\r")
        number += 1
    last, _, behind = rest.partition("'")
    behind = behind.lstrip(" \t")
    if behind and not behind.startswith("#"):
        raise _error(number, "unexpected content after closing quote")
    return "\n".join([*parts, last]), number


def _error(number: int, what: str) -> EnvFileError:
    return EnvFileError(f"invalid environment variable format at line {number}: {what}")
