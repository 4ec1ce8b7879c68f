"""The attachments on disk, a file each: what DEL needs, also after a crash or a reboot."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic
from runtime.network.cni.attachment import Record
from runtime.network.errors import NetworkError

_LOGGER: Final = logging.getLogger(__name__)
_SUFFIX: Final = ".json"
_BROKEN: Final = ".broken"


class Cache:
    """The records below ``directory`` (made at the first need), and a copy of them in memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records = self._load()

    def _load(self) -> dict[str, Record]:
        records: dict[str, Record] = {}
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                record = Record.from_json(json.loads(path.read_bytes()))
                if record.sandbox_id != path.stem:
                    raise ValueError(f"is of sandbox {record.sandbox_id}")
            except (OSError, ValueError) as error:
                # Nobody can call DEL for it; it is kept for whoever cleans up by hand.
                logs.event(
                    _LOGGER, logging.ERROR, "the record of a pod's CNI network is unreadable and "
                    "was set aside", path=str(path), error=str(error),
                )  # fmt: skip
                path.replace(path.with_suffix(_BROKEN))
                continue
            records[record.sandbox_id] = record
        return records

    def get(self, sandbox_id: str) -> Record | None:
        """Return the record of a sandbox."""
        return self._records.get(sandbox_id)

    def all(self) -> list[Record]:
        """Return all records."""
        return list(self._records.values())

    def put(self, record: Record) -> None:
        """Write a record down; it is on the disk on return.

        Raises:
            NetworkError: the disk refused; the earlier record is still there.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(self._path(record.sandbox_id), json.dumps(record.to_json()), sync=True)
        except OSError as error:
            raise NetworkError(
                f"writing down the network of sandbox {record.sandbox_id} in {self._directory}: "
                f"{error}"
            ) from error
        self._records[record.sandbox_id] = record

    def drop(self, sandbox_id: str) -> None:
        """Forget a record; there may be none.

        Raises:
            NetworkError: the disk refused.
        """
        try:
            self._path(sandbox_id).unlink(missing_ok=True)
        except OSError as error:
            raise NetworkError(
                f"forgetting the network of sandbox {sandbox_id}: {error}"
            ) from error
        self._records.pop(sandbox_id, None)

    def _path(self, sandbox_id: str) -> Path:
        return self._directory / f"{sandbox_id}{_SUFFIX}"
