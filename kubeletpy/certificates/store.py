"""Certificates on disk, laid out as the Go kubelet does it.

``kubelet-client-2026-01-02-03-04-05.pem`` holds a certificate and its key;
``kubelet-client-current.pem`` is a symbolic link to the one in use, changed in one step.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from kubeletpy_common.atomic import write_atomic

from .pairs import CertificateError, KeyPair, read_pair


class CertificateStore:
    """One certificate and those before it.

    Args:
        directory: ``--cert-dir``.
        prefix: ``kubelet-client`` or ``kubelet-server``.
    """

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix

    @property
    def path(self) -> Path:
        """The link to the current pair."""
        return self._directory / f"{self._prefix}-current.pem"

    @property
    def pending_key(self) -> Path:
        """Where the key of a request that is not answered yet is kept."""
        return self._directory / f"{self._prefix}.key.tmp"

    def current(self) -> KeyPair | None:
        """Return the current pair, None if there is none.

        Raises:
            CertificateError: it cannot be read.
        """
        try:
            return read_pair(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, CertificateError) as error:
            raise CertificateError(f"{self.path}: {error}") from error

    def current_or_none(self) -> KeyPair | None:
        """Return the current pair, None also if it cannot be read."""
        try:
            return self.current()
        except CertificateError:
            return None

    def update(self, certificate: bytes, key: bytes) -> KeyPair:
        """Make a pair the current one.

        Raises:
            CertificateError: they do not fit, or cannot be written.
        """
        data = certificate.strip() + b"\n" + key.strip() + b"\n"
        pair = read_pair(data)
        now = datetime.now(UTC)
        path = self._directory / f"{self._prefix}-{now:%Y-%m-%d-%H-%M-%S}.pem"
        link = self._directory / f"{self._prefix}-updated.pem"
        try:
            self.make_directory()
            write_atomic(path, data, mode=0o600, sync=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path.absolute())
            os.replace(link, self.path)
            self.pending_key.unlink(missing_ok=True)
        except OSError as error:
            raise CertificateError(f"certificate cannot be kept in {path}: {error}") from error
        return pair

    def make_directory(self) -> None:
        """Make the directory, for root alone, if it is not there.

        Raises:
            OSError: it cannot be made.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
