from __future__ import annotations

import pytest

from kubeletpy.variables.env_file import EnvFileError, parse

FILE = """\
# a comment

ONE='first' # behind
  TWO='a "b" $(C) \\n'
MANY='line 1
 line 2 # no comment

line 4'
EMPTY=''
BASH= 'not taken'
LAST='x'\
"""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ONE", "first"),
        ("TWO", 'a "b" $(C) \\n'),
        ("MANY", "line 1\n line 2 # no comment\n\nline 4"),
        ("EMPTY", ""),
        ("BASH", ""),
        ("LAST", "x"),
        ("NONE", ""),
        ("line 4'", ""),
    ],
)
def test_values(key: str, value: str) -> None:
    assert parse(FILE, key) == value
    assert parse(FILE.replace("\n", "\r\n"), "ONE") == "first"


def test_the_first_of_two_counts() -> None:
    assert parse("A='1'\nA='2'\n", "A") == "1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A='1'\nnothing", "at line 2: missing '='"),
        ("='1'", "at line 1: empty variable name"),
        ("B ='1'", "at line 1: whitespace before '=' is not allowed"),
        ("B=1", "at line 1: value must be enclosed in single quotes"),
        ("B='1' rest", "at line 1: unexpected content after closing quote"),
        ("B='1\n2", "starting at line 1: unclosed single quote"),
        ("B='1\n2' x", "at line 2: unexpected content after closing quote"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(EnvFileError, match=f"^invalid environment variable format {message}$"):
        parse(text, "KEY")
