"""What the built-in plugins share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from kubeletpy.blocking import Blocking
from kubeletpy.cri.node import NodeFacts
from kubeletpy.events import Recorder

from .errors import VolumeError
from .objects import Objects
from .plugin import VolumeRequest
from .tokens import Tokens

_T = TypeVar("_T")
TIMEOUT = 110.0
"""Seconds that one piece of file work may take; it goes on in its thread after that."""


@dataclass(slots=True)
class Context:
    """What the built-in plugins share.

    Attributes:
        node: facts of the node.
        objects: the API server.
        tokens: of service accounts.
        recorder: takes events; None: nobody wants them.
        node_labels: the labels of this node as the API server has them; None: not known.
        blocking: runs file work, one at a time for each volume.
    """

    node: NodeFacts
    objects: Objects
    tokens: Tokens
    recorder: Recorder | None = None
    node_labels: Callable[[], dict[str, str] | None] = lambda: None
    blocking: Blocking = field(default_factory=Blocking)

    async def run(self, request: VolumeRequest, what: str, call: Callable[[], _T]) -> _T:
        """Run file work for a volume in a thread.

        Raises:
            VolumeError: it failed or hangs.
        """
        return await self.run_for(request.pod.metadata.uid, request.name, what, call)

    async def run_for(self, uid: str, name: str, what: str, call: Callable[[], _T]) -> _T:
        """Run file work for volume ``name`` of the pod ``uid`` in a thread.

        Raises:
            VolumeError: it failed or hangs.
        """
        try:
            return await self.blocking.run(f"{uid}/{name}", what, TIMEOUT, call)
        except (TimeoutError, OSError, ValueError) as error:
            raise VolumeError(name, str(error)) from error
