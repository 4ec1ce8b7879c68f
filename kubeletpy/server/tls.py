"""TLS of the kubelet's API: files that may be renewed at any time are read at the next handshake.

Source: Kubernetes documentation, "Kubelet Configuration (v1beta1)", ``tlsCertFile``,
``tlsMinVersion``, ``tlsCipherSuites``, ``authentication.x509``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic

_log = logging.getLogger(__name__)

_VERSIONS: Final = {
    "": ssl.TLSVersion.TLSv1_2,
    # Older ones are not offered by OpenSSL's default level of security any more.
    "VersionTLS10": ssl.TLSVersion.TLSv1_2,
    "VersionTLS11": ssl.TLSVersion.TLSv1_2,
    "VersionTLS12": ssl.TLSVersion.TLSv1_2,
    "VersionTLS13": ssl.TLSVersion.TLSv1_3,
}
# Of TLS 1.2, by their names of IANA; those of 1.3 cannot be chosen, as in Go.
_CIPHERS: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
_IN_TLS_1_3: Final = frozenset(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
)
Certificate = Callable[[], tuple[Path, Path]]


class TlsError(ValueError):
    """A setting of TLS that cannot be taken; the message says which and why."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How TLS is served.

    Attributes:
        certificate: returns the files of the certificate (with what leads to its authority) and of
            its key. Asked at each handshake: a rotated certificate may be in another file.
        client_ca: authorities whose client certificates are believed; None: nobody's are.
        min_version: as ``VersionTLS12``; "" is that.
        cipher_suites: IANA names; none: those that OpenSSL finds good.
        curves: numbers of key exchange groups (IANA's TLS Supported Groups). One is the only one
            that is spoken; of several all that OpenSSL finds good are, as Python cannot set them.
    """

    certificate: Certificate
    client_ca: Path | None = None
    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[int, ...] = ()


def cipher_list(names: Sequence[str]) -> str:
    """Return OpenSSL's list of cipher suites of TLS 1.2 (pure); "" for none named.

    Raises:
        TlsError: one is not known.
    """
    unknown = [name for name in names if name not in _CIPHERS and name not in _IN_TLS_1_3]
    if unknown:
        raise TlsError(f"tlsCipherSuites: not known or not safe: {', '.join(unknown)}")
    return ":".join(_CIPHERS[name] for name in names if name in _CIPHERS)


_POST_QUANTUM: Final = 4588
"""X25519MLKEM768, which OpenSSL has from 3.5 on."""
_CURVES: Final = {23: "prime256v1", 24: "secp384r1", 25: "secp521r1", 29: "X25519"}


def curve(numbers: Sequence[int]) -> str:
    """Return OpenSSL's name of the only group that is to be spoken, "" for those it finds good.

    Raises:
        TlsError: one is not known.
    """
    unknown = [str(number) for number in numbers if number not in (*_CURVES, _POST_QUANTUM)]
    if unknown or list(numbers) == [_POST_QUANTUM]:
        known = ", ".join(f"{number} ({name})" for number, name in _CURVES.items())
        raise TlsError(
            f"tlsCurvePreferences: {', '.join(map(str, numbers))}: of {known} one can be set"
        )
    return _CURVES[numbers[0]] if len(numbers) == 1 else ""


class ServingTls:
    """The TLS of a server whose certificates may change while it runs.

    Args:
        options: what is served.

    Raises:
        TlsError: the options cannot be taken. Files that are missing or wrong are no error here:
            handshakes fail until they are right, and the log tells.
    """

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        if options.min_version not in _VERSIONS:
            raise TlsError(f"tlsMinVersion: {options.min_version!r} is not known")
        self._ciphers = cipher_list(options.cipher_suites)
        self._curve = curve(options.curves)
        self._seen: tuple[object, ...] = ()
        self._usable = False
        self._latest = self._context()
        self._refresh()
        self.context = self._context()
        # Called for each handshake, with or without a server name in it.
        self.context.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        self._refresh()
        if not self._usable:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR)
        connection.context = self._latest
        return None

    def _refresh(self) -> None:
        """Read the files anew if they are not those that were read last."""
        certificate, key = self._options.certificate()
        files = [certificate, key]
        if self._options.client_ca is not None:
            files.append(self._options.client_ca)
        seen = tuple(_mark(file) for file in files)
        if seen == self._seen:
            return
        self._seen = seen
        context = self._context()
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
            if self._options.client_ca is not None:
                context.load_verify_locations(cafile=str(self._options.client_ca))
        except (OSError, ssl.SSLError, TlsError) as error:
            # What was good before goes on to be served.
            logs.event(
                _log, logging.ERROR, "certificates cannot be used",
                files=" ".join(map(str, files)), reason=str(error),
            )  # fmt: skip
            return
        self._latest, self._usable = context, True
        logs.event(_log, logging.INFO, "certificates read", certificate=str(certificate))

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._options.min_version]
        # Each connection shows its certificate anew, so that it is judged by today's authorities.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        if self._ciphers:
            context.set_ciphers(self._ciphers)
        if self._curve:
            try:
                context.set_ecdh_curve(self._curve)
            except (ssl.SSLError, ValueError) as error:
                # Debian 12's, 3.11.2, takes only the curves that are of OpenSSL's oldest kind.
                raise TlsError(
                    f"tlsCurvePreferences: Python {platform.python_version()} cannot set "
                    f"{self._curve}: name 23 (prime256v1) or several, or leave it out"
                ) from error
        if self._options.client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def _mark(file: Path) -> tuple[object, ...]:
    try:
        found = os.stat(file)
    except OSError as error:
        return (str(file), error.errno)
    return (str(file), found.st_ino, found.st_size, found.st_mtime_ns)


def _no_password() -> str:
    # Without this OpenSSL would ask the terminal.
    raise TlsError("the key is encrypted; give one that is not")


FALLBACK_DAYS: Final = 365


def fallback_certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """Return the self-signed certificate and key of ``directory``, made if they are not there.

    As the Go kubelet does where no certificate is given and none is asked of the cluster:
    ``kubelet.crt`` and ``kubelet.key``, for a year. Unlike there, one that has ended is made anew.

    Raises:
        OSError: they cannot be written.
    """
    # Only here: it takes memory that a kubelet with certificates of its cluster saves.
    from .selfsigned import ends_at, self_signed

    certificate, key = directory / "kubelet.crt", directory / "kubelet.key"
    with contextlib.suppress(OSError, ValueError, ssl.SSLError, TlsError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, _no_password)
        if ends_at(certificate.read_bytes()) > time.time():
            return certificate, key
    made = self_signed(host, FALLBACK_DAYS)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(key, made.key, mode=0o600)
    write_atomic(certificate, made.certificate, mode=0o644)
    return certificate, key
