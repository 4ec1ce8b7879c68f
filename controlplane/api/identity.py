"""Who asks.

Source: Kubernetes documentation, "Authenticating", "Users in Kubernetes".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"
MASTERS: Final = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    """A user, be it a person, a service account, a node or the server itself.

    Attributes:
        name: such as ``system:node:edge-1``.
        uid: tells users of the same name apart in time; "" if nobody says.
        groups: that the user is in.
        extra: what else the authenticator knows.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


SYSTEM: Final = User("system:apiserver", "", (MASTERS, AUTHENTICATED))
"""The server itself."""

ANONYMOUS: Final = User("system:anonymous", "", (UNAUTHENTICATED,))
