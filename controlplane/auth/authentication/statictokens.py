"""Users with tokens that never change, from a file.

Source: Kubernetes documentation, "Authenticating", "Static token file".
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from controlplane.api.identity import User
from controlplane.auth.authentication.authenticator import TokenUser
from controlplane.options import OptionsError


class StaticTokens:
    """The users of a file.

    Args:
        text: lines of token, name, uid and, quoted, the groups with commas between them.

    Raises:
        OptionsError: a line is none of these.
    """

    def __init__(self, text: str) -> None:
        # By digest: the time that a look-up takes tells nothing about tokens.
        self._users: dict[bytes, User] = {}
        for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
            if not row:
                continue
            if len(row) < 3 or not row[0].strip() or not row[1].strip():
                raise OptionsError(
                    f'token file, line {number}: expected token,name,uid[,"group,group"]'
                )
            groups = row[3].split(",") if len(row) > 3 else []
            found = tuple(group.strip() for group in groups if group.strip())
            self._users[_digest(row[0].strip())] = User(row[1].strip(), row[2].strip(), found)

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> TokenUser | None:
        """Return whom a token stands for; None: nobody that the file names."""
        user = self._users.get(_digest(token))
        return None if user is None else TokenUser(user, tuple(audiences))


def read_token_file(path: Path) -> StaticTokens:
    """Return the users of a file.

    Raises:
        OptionsError: it cannot be read.
    """
    try:
        return StaticTokens(path.read_text())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionsError(f"token file {path}: {error}") from error


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
