"""How a session ended, as the ``Status`` object that clients read from the error stream (pure).

Source: k8s.io/apimachinery, ``metav1.Status``; reason and cause types are those of
k8s.io/apimachinery/pkg/util/remotecommand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        exit_code: of the command; 0 as well for an attachment that ended as it should.
        error: why there is no exit code; "" otherwise.
    """

    exit_code: int = 0
    error: str = ""

    @property
    def text(self) -> str:
        """What went wrong, for protocols before version 4; "" if nothing did."""
        if self.error:
            return self.error
        if self.exit_code:
            return f"command terminated with non-zero exit code: exit code {self.exit_code}"
        return ""


def status_json(outcome: Outcome) -> bytes:
    """Return the ``Status`` object."""
    status: dict[str, Any] = {"metadata": {}, "status": "Success"}
    if outcome.text:
        status |= {"status": "Failure", "message": outcome.text}
    if outcome.error:
        status |= {"reason": "InternalError", "code": 500}
        status["details"] = {"causes": [{"message": outcome.error}]}
    elif outcome.exit_code:
        status["reason"] = "NonZeroExitCode"
        cause = {"reason": "ExitCode", "message": str(outcome.exit_code)}
        status["details"] = {"causes": [cause]}
    return json.dumps(status, separators=(",", ":")).encode()
