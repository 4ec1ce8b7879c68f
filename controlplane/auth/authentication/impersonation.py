"""Asking as somebody else, if one may.

Source: Kubernetes documentation, "User impersonation".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from controlplane.api.errors import bad_request
from controlplane.api.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User
from controlplane.auth.authorization.attributes import Attributes, Authorizer, forbidden

_USER: Final = "Impersonate-User"
_GROUP: Final = "Impersonate-Group"
_UID: Final = "Impersonate-Uid"
_EXTRA: Final = "impersonate-extra-"
_AUTHENTICATION: Final = "authentication.k8s.io"
_ACCOUNT: Final = "system:serviceaccount:"


def impersonated(headers: CIMultiDictProxy[str], user: User, authorizer: Authorizer) -> User:
    """Return who the request is for: ``user``, or whom the user may act as.

    Raises:
        ApiError: the user may not, or the headers name no user.
    """
    name, uid = headers.get(_USER, ""), headers.get(_UID, "")
    groups = tuple(headers.getall(_GROUP, ()))
    extra: dict[str, tuple[str, ...]] = {}
    for header in headers:
        if header.lower().startswith(_EXTRA):
            key = unquote(header[len(_EXTRA) :].lower())
            extra[key] = tuple(headers.getall(header))
    if not name:
        if uid or groups or extra:
            raise bad_request("requested groups, uid or extra without impersonating a user name")
        return user
    target = User(name, uid, _all_groups(name, groups), extra)
    for wanted in _needed(user, target, groups):
        allowed, reason = authorizer.authorize(wanted)
        if not allowed:
            raise forbidden(wanted, reason)
    return target


def _needed(user: User, target: User, groups: tuple[str, ...]) -> Iterator[Attributes]:
    account = target.name.removeprefix(_ACCOUNT).split(":")
    if target.name.startswith(_ACCOUNT) and len(account) == 2:
        yield Attributes(user, "impersonate", "", "v1", "serviceaccounts",
                         namespace=account[0], name=account[1])  # fmt: skip
    else:
        yield Attributes(user, "impersonate", "", "v1", "users", name=target.name)
    for group in groups:
        yield Attributes(user, "impersonate", "", "v1", "groups", name=group)
    if target.uid:
        yield Attributes(user, "impersonate", _AUTHENTICATION, "v1", "uids", name=target.uid)
    for key, values in target.extra.items():
        for value in values:
            yield Attributes(
                user, "impersonate", _AUTHENTICATION, "v1", "userextras", key, name=value
            )


def _all_groups(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    account = name.removeprefix(_ACCOUNT).split(":")
    if name.startswith(_ACCOUNT) and len(account) == 2 and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    if AUTHENTICATED in groups or UNAUTHENTICATED in groups:
        return groups
    return (*groups, UNAUTHENTICATED if name == ANONYMOUS.name else AUTHENTICATED)
