"""Who a container runs as: the request, the image's USER, and the image's own files (all pure).

The image is not trusted. Its /etc/passwd and /etc/group reach this module as bytes that the caller
has read up to :data:`FILE_LIMIT`; lines that do not parse are skipped, as the C library does, and
only numbers that fit a signed 32-bit integer name a user (CVE-2024-40635).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

FILE_LIMIT = 1 << 20
"""Bytes of /etc/passwd and /etc/group that are looked at (CVE-2025-0750, CVE-2023-25153)."""

MAX_ID = (1 << 31) - 1
_MAX_GROUPS = 65536  # the kernel's NGROUPS_MAX
_MAX_NAME = 256


class UserError(ValueError):
    """The user or group asked for does not exist in the image, or is no valid number."""


@dataclass(frozen=True)
class UserRequest:
    """What the client asked for.

    Attributes:
        uid: ``run_as_user``; None if not given.
        gid: ``run_as_group``; None if not given.
        username: ``run_as_username``; "" if not given.
        supplemental: ``supplemental_groups``.
        strict: only those groups; the image's /etc/group adds none
            (``SupplementalGroupsPolicy.Strict``).
    """

    uid: int | None = None
    gid: int | None = None
    username: str = ""
    supplemental: tuple[int, ...] = ()
    strict: bool = False


@dataclass(frozen=True)
class ResolvedUser:
    """The numbers that the process gets, and the home directory that goes with them.

    Attributes:
        uid: user.
        gid: primary group.
        groups: supplementary groups, sorted, the primary one among them (CVE-2022-2995).
        home: of the image's /etc/passwd, "/" if it has no such user.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = "/"


@dataclass(frozen=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(
    request: UserRequest, image_user: str, passwd: bytes | None, group: bytes | None
) -> ResolvedUser:
    """Return who the container's process is.

    The request's number or name wins over the image's ``USER`` (``name|uid[:group|gid]``).
    Without any of them it is root.

    Args:
        request: the security context of the CRI request.
        image_user: ``User`` of the image's config.
        passwd: content of the image's /etc/passwd, None if it has none.
        group: content of the image's /etc/group, None if it has none.

    Raises:
        UserError: it names somebody who does not exist, or a number out of range.
    """
    user, wanted_group = _choose(request, image_user)
    account, uid = _user(user, _accounts(passwd or b""))
    if wanted_group:
        gid = _group_id(wanted_group, _groups(group or b""))
    else:
        gid = account.gid if account else 0
    extra = {_checked(number, "supplemental group") for number in request.supplemental}
    if not request.strict and account:
        extra |= {e.gid for e in _groups(group or b"") if account.name in e.members}
    extra.add(gid)
    if len(extra) > _MAX_GROUPS:
        raise UserError(
            f"user {user!r} has {len(extra)} supplementary groups, the kernel takes at most "
            f"{_MAX_GROUPS}"
        )
    return ResolvedUser(uid, gid, tuple(sorted(extra)), account.home if account else "/")


def _choose(request: UserRequest, image_user: str) -> tuple[str, str]:
    group = "" if request.gid is None else str(_checked(request.gid, "run_as_group"))
    if request.uid is not None and request.username:
        raise UserError(
            f"run_as_user {request.uid} and run_as_username {request.username!r} are both given: "
            "the protocol allows one of them"
        )
    if request.uid is not None:
        return str(_checked(request.uid, "run_as_user")), group
    if request.username:
        return request.username, group
    if group:
        raise UserError(
            "run_as_group is given without run_as_user or run_as_username: a group alone says "
            "nothing; give the user as well"
        )
    user, _, image_group = image_user.partition(":")
    return user or "0", image_group


def _user(user: str, accounts: Iterator[_Account]) -> tuple[_Account | None, int]:
    number = _number(user)
    if number is not None:
        # A number needs no entry; if it has one, that gives its group and home.
        uid = _checked(number, "user")
        return next((entry for entry in accounts if entry.uid == uid), None), uid
    for entry in accounts:
        if entry.name == user:
            return entry, entry.uid
    raise UserError(
        f"user {user!r} is not in the image's /etc/passwd: use one that is, or a number"
    )


def _group_id(group: str, groups: Iterator[_Group]) -> int:
    number = _number(group)
    if number is not None:
        return _checked(number, "group")
    for entry in groups:
        if entry.name == group:
            return entry.gid
    raise UserError(
        f"group {group!r} is not in the image's /etc/group: use one that is, or a number"
    )


def _number(text: str) -> int | None:
    # int() would also take "+1", " 1", "1_0" and the digits of other scripts. A name may begin
    # with a digit, but no name is a number with a sign.
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return None
    if len(digits) > 20:
        raise UserError(f"{text[:24]!r}... is out of range for a user or group (0 to {MAX_ID})")
    return int(text)


def _checked(number: int, what: str) -> int:
    if not 0 <= number <= MAX_ID:
        raise UserError(f"{what} {number} is out of range (0 to {MAX_ID})")
    return number


def _accounts(content: bytes) -> Iterator[_Account]:
    # passwd(5): name:password:UID:GID:GECOS:directory:shell
    for fields in _lines(content):
        if len(fields) >= 4:
            uid, gid = _field(fields[2]), _field(fields[3])
            if uid is not None and gid is not None:
                home = fields[5] if len(fields) > 5 else ""
                yield _Account(fields[0], uid, gid, home if home.startswith("/") else "/")


def _groups(content: bytes) -> Iterator[_Group]:
    # group(5): name:password:GID:user_list
    for fields in _lines(content):
        if len(fields) >= 3 and (gid := _field(fields[2])) is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(fields[0], gid, tuple(name for name in members if name))


def _lines(content: bytes) -> Iterator[list[str]]:
    if len(content) >= FILE_LIMIT:
        # The last line may be cut short: "x:100" could have been "x:1000".
        content = content[: content.rfind(b"\n", 0, FILE_LIMIT) + 1]
    for line in io.BytesIO(content):
        text = line.decode("utf-8", "replace").strip()
        if text and not text.startswith("#"):
            fields = text.split(":")
            if fields[0] and len(fields[0]) <= _MAX_NAME:
                yield fields


def _field(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    number = int(text)
    return number if number <= MAX_ID else None
