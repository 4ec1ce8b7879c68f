"""Who a container runs as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.oci.users import (
    FILE_LIMIT,
    MAX_ID,
    ResolvedUser,
    UserError,
    UserRequest,
    resolve_user,
)

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
# a comment
broken
web:x:1000:1000::/home/web:/bin/sh
nohome:x:1001:100
relative:x:1002:100::home:/bin/sh
huge:x:4294967296:0::/:/bin/sh
negative:x:-1:0::/:/bin/sh
wide:x:\xd9\xa1:0::/:/bin/sh
"""
GROUP = b"""\
root:x:0:
web:x:1000:
staff:x:50:web,other
extra:x:2000:other, web
more:x:3000:web
bad:x:abc:web
"""


def resolved(image_user: str = "", **fields: object) -> ResolvedUser:
    return resolve_user(UserRequest(**fields), image_user, PASSWD, GROUP)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image_user", "fields", "expected"),
    [
        ("", {}, ResolvedUser(0, 0, (0,), "/root")),
        ("web", {}, ResolvedUser(1000, 1000, (50, 1000, 3000), "/home/web")),
        ("1000", {}, ResolvedUser(1000, 1000, (50, 1000, 3000), "/home/web")),
        ("web:extra", {}, ResolvedUser(1000, 2000, (50, 2000, 3000), "/home/web")),
        ("web:77", {}, ResolvedUser(1000, 77, (50, 77, 3000), "/home/web")),
        ("5000", {}, ResolvedUser(5000, 0, (0,), "/")),
        ("5000:6000", {}, ResolvedUser(5000, 6000, (6000,), "/")),
        ("nohome", {}, ResolvedUser(1001, 100, (100,), "/")),
        ("relative", {}, ResolvedUser(1002, 100, (100,), "/")),
        ("web", {"uid": 0}, ResolvedUser(0, 0, (0,), "/root")),
        ("web:50", {"uid": 5000}, ResolvedUser(5000, 0, (0,), "/")),
        ("", {"username": "web"}, ResolvedUser(1000, 1000, (50, 1000, 3000), "/home/web")),
        ("", {"uid": 1000, "gid": 9}, ResolvedUser(1000, 9, (9, 50, 3000), "/home/web")),
        ("", {"uid": MAX_ID}, ResolvedUser(MAX_ID, 0, (0,), "/")),
        (
            "",
            {"uid": 1000, "supplemental": (7, 8)},
            ResolvedUser(1000, 1000, (7, 8, 50, 1000, 3000), "/home/web"),
        ),
        (
            "",
            {"uid": 1000, "supplemental": (7,), "strict": True},
            ResolvedUser(1000, 1000, (7, 1000), "/home/web"),
        ),
    ],
)
def test_who_it_is(image_user: str, fields: dict[str, object], expected: ResolvedUser) -> None:
    assert resolved(image_user, **fields) == expected


@pytest.mark.parametrize(
    ("image_user", "fields", "words"),
    [
        ("nobody-here", {}, "nobody-here"),
        ("web:nogroup", {}, "nogroup"),
        ("2147483648", {}, "out of range"),
        ("4294967296", {}, "out of range"),
        ("-1", {}, "out of range"),
        ("1" * 5000, {}, "out of range"),
        ("0:2147483648", {}, "out of range"),
        ("huge", {}, "huge"),
        ("negative", {}, "negative"),
        ("wide", {}, "wide"),
        ("+0", {}, "not in the image"),
        (" 0", {}, "not in the image"),
        ("", {"uid": 1 << 31}, "run_as_user"),
        ("", {"uid": -1}, "run_as_user"),
        ("", {"uid": 1, "gid": 1 << 32}, "run_as_group"),
        ("", {"gid": 5}, "run_as_group"),
        ("", {"uid": 1, "username": "web"}, "both given"),
        ("", {"supplemental": (1 << 31,)}, "supplemental"),
        ("", {"username": "web\n"}, "not in the image"),
    ],
)
def test_who_it_cannot_be(image_user: str, fields: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolved(image_user, **fields)


def test_an_image_without_files_has_root_and_numbers() -> None:
    assert resolve_user(UserRequest(), "", None, None) == ResolvedUser(0, 0, (0,), "/")
    assert resolve_user(UserRequest(uid=7), "", None, None).uid == 7
    with pytest.raises(UserError):
        resolve_user(UserRequest(username="root"), "", None, None)


def test_a_line_cut_at_the_limit_is_not_believed() -> None:
    line = b"cut:x:1000:1000::/:\n"
    padding = b"#" * (FILE_LIMIT - 10 - 1) + b"\n"
    with pytest.raises(UserError):
        resolve_user(UserRequest(username="cut"), "", (padding + line)[:FILE_LIMIT], None)


@given(st.binary(max_size=300), st.binary(max_size=300), st.text(max_size=20))
def test_no_file_makes_it_crash_or_leave_the_range(
    passwd: bytes, group: bytes, image_user: str
) -> None:
    try:
        user = resolve_user(UserRequest(), image_user, passwd, group)
    except UserError:
        return
    assert 0 <= user.uid <= MAX_ID
    assert all(0 <= number <= MAX_ID for number in (user.gid, *user.groups))
    assert user.gid in user.groups
    assert user.home.startswith("/")
