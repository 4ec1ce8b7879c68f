"""Reading a kubeconfig file: where the API server is, and how to prove who we are.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ : the current context is taken.
Credentials by ``exec`` plug-ins and auth providers are refused: a node has a certificate or token.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubeletpy_common.documents import DocumentError, parse

_LARGEST = 4 * 1024 * 1024
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has its token."""


class KubeconfigError(ValueError):
    """A kubeconfig that cannot be used; the message names file, field and what is expected."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach an API server.

    Attributes:
        server: URL, without a slash at its end.
        ca: PEM certificates that may have signed the server's; empty: those of the system.
        ca_file: where ``ca`` was read; None: in the kubeconfig itself.
        certificate, key: PEM, the client's own; or
        certificate_file, key_file: where they are (read again by `ssl_context`, so rotation works).
        token, token_file: bearer token, or where it is (read again for new requests).
        server_name: name expected in the server's certificate, "" for the URL's host.
        insecure: the server's certificate is not verified.
        proxy: URL of an HTTP proxy, or "".
    """

    server: str
    ca: bytes = b""
    ca_file: Path | None = None
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    certificate_file: Path | None = None
    key_file: Path | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    server_name: str = ""
    insecure: bool = False
    proxy: str = ""

    def load_client_certificate(self, context: ssl.SSLContext) -> None:
        """Read the client's certificate into ``context``, again if it was rotated.

        Raises:
            KubeconfigError: it cannot be read, or key and certificate do not fit.
        """
        try:
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file)
            elif self.certificate:
                # The module ssl takes certificates from files only.
                with tempfile.NamedTemporaryFile(prefix="kubelet-client-") as file:
                    file.write(self.certificate + b"\n" + self.key)
                    file.flush()
                    context.load_cert_chain(file.name)
        except (OSError, ssl.SSLError) as error:
            name = self.certificate_file or "client-certificate-data"
            raise KubeconfigError(f"client certificate {name}: {error}") from error

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return what to connect with; None for plain HTTP.

        Raises:
            KubeconfigError: a certificate cannot be read.
        """
        if urlsplit(self.server).scheme != "https":
            return None
        try:
            context = ssl.create_default_context(
                cadata=self.ca.decode("ascii", "replace") if self.ca else None
            )
        except ssl.SSLError as error:
            raise KubeconfigError(f"certificate-authority: {error}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.load_client_certificate(context)
        return context

    def bearer(self) -> str:
        """Return the token to send, "" if there is none.

        Raises:
            KubeconfigError: the token's file cannot be read.
        """
        if self.token_file is None:
            return self.token
        try:
            return self.token_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise KubeconfigError(f"tokenFile {self.token_file}: {error}") from error


def read_kubeconfig(path: Path) -> Access:
    """Read a kubeconfig file.

    Raises:
        KubeconfigError: it cannot be read or used.
    """
    try:
        with open(path, "rb") as file:
            document = parse(file.read(_LARGEST))
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error.strerror}") from None
    except DocumentError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error}") from None
    try:
        return access_of(document, path.parent)
    except KubeconfigError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error}") from None


def in_cluster(environment: Mapping[str, str], directory: Path = SERVICE_ACCOUNT) -> Access:
    """Return the access of a pod: address of its variables, token and authority of its files.

    Raises:
        KubeconfigError: this is no pod, or it has no token.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise KubeconfigError(
            "there is no kubeconfig, and this is no pod: KUBERNETES_SERVICE_HOST is not set"
        )
    token = directory / "token"
    if not token.is_file():
        raise KubeconfigError(f"there is no kubeconfig, and this pod has no token in {token}")
    try:
        authority = (directory / "ca.crt").read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{directory / 'ca.crt'}: {error.strerror}") from None
    address = f"[{host}]" if ":" in host else host
    return Access(server=f"https://{address}:{port}", ca=authority, token_file=token)


def access_of(document: object, directory: Path) -> Access:
    """Return the access that the current context of a kubeconfig names.

    Args:
        document: the parsed file.
        directory: what relative paths are relative to.

    Raises:
        KubeconfigError: something that is needed is missing or not supported.
    """
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config":
        raise KubeconfigError("kind must be Config")
    current = document.get("current-context")
    if not isinstance(current, str) or not current:
        raise KubeconfigError("current-context is not set")
    context = _named(document, "contexts", "context", current)
    cluster = _named(document, "clusters", "cluster", _text(context, "cluster"))
    name = _text(context, "user")
    user = _named(document, "users", "user", name) if name else {}
    for unsupported in ("exec", "auth-provider", "username", "as"):
        if user.get(unsupported):
            raise KubeconfigError(
                f"user {name!r}: {unsupported} is not supported, only certificates and tokens"
            )
    server = _text(cluster, "server").rstrip("/")
    if urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
        raise KubeconfigError(f"cluster: server {server!r} is no URL such as https://10.0.0.1:6443")
    certificate = _data(user, "client-certificate")
    return Access(
        server=server,
        ca=_content(cluster, "certificate-authority", directory),
        ca_file=None
        if _data(cluster, "certificate-authority")
        else _file(cluster, "certificate-authority", directory),
        certificate=certificate,
        key=_data(user, "client-key"),
        certificate_file=None if certificate else _file(user, "client-certificate", directory),
        key_file=None if certificate else _file(user, "client-key", directory),
        token=_text(user, "token"),
        token_file=None if user.get("token") else _file(user, "tokenFile", directory),
        server_name=_text(cluster, "tls-server-name"),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        proxy=_text(cluster, "proxy-url"),
    )


def _named(document: Mapping[str, Any], many: str, one: str, name: str) -> Mapping[str, Any]:
    entries = document.get(many)
    for entry in entries if isinstance(entries, Iterable) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(one)
            if isinstance(found, dict):
                return found
    raise KubeconfigError(f"{many}: there is no {one} named {name!r}")


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise KubeconfigError(f"{name}: is not a string")
    return value or ""


def _data(fields: Mapping[str, Any], name: str) -> bytes:
    text = _text(fields, f"{name}-data")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise KubeconfigError(f"{name}-data: not base64: {error}") from None


def _file(fields: Mapping[str, Any], name: str, directory: Path) -> Path | None:
    text = _text(fields, name)
    return directory / text if text else None


def _content(fields: Mapping[str, Any], name: str, directory: Path) -> bytes:
    data = _data(fields, name)
    path = _file(fields, name, directory)
    if data or path is None:
        return data
    try:
        return path.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{name} {path}: {error.strerror}") from None
