"""Who a request comes from.

Source: Kubernetes documentation, "Authenticating", "Kubelet authentication/authorization".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ANONYMOUS: Final = "system:anonymous"
UNAUTHENTICATED: Final = "system:unauthenticated"
AUTHENTICATED: Final = "system:authenticated"


@dataclass(frozen=True, slots=True)
class User:
    """A user.

    Attributes:
        name: as ``kube-apiserver-kubelet-client``.
        uid: empty where nobody gave one.
        groups: that the user is in.
        extra: what else an authenticator said, by key.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def known(self) -> User:
        """Return the user in the group of all who are known."""
        if AUTHENTICATED in self.groups or self.name == ANONYMOUS:
            return self
        return User(self.name, self.uid, (*self.groups, AUTHENTICATED), self.extra)


NOBODY: Final = User(ANONYMOUS, groups=(UNAUTHENTICATED,))
