"""Requests that go on to an extension server, in the name of who sent them.

Source: Kubernetes documentation, "Configure the Aggregation Layer", "Kubernetes Apiserver Proxies
the Request"; RFC 9110, section 5.5 for what a header may hold.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import web

from controlplane.aggregation.registered import Registered
from controlplane.aggregation.resolving import ResolveError, resolve
from controlplane.api.errors import ApiError
from controlplane.api.identity import User
from controlplane.api.resource import Object
from controlplane.options import Options
from controlplane.proxying.backends import Backends
from controlplane.proxying.headers import Headers, is_upgrade
from controlplane.proxying.passing import Place, pass_on
from controlplane.proxying.targets import Target
from controlplane.proxying.upgrading import serve_upgrade
from controlplane.server.keys import INFO, USER

USER_HEADER: Final = "X-Remote-User"
UID_HEADER: Final = "X-Remote-Uid"
GROUP_HEADER: Final = "X-Remote-Group"
EXTRA_HEADER: Final = "X-Remote-Extra-"
CLIENT: Final = "front-proxy-client"
"""Name of the certificate by which extension servers know this server."""

_DISCOVERY_SECONDS: Final = 5.0
_DISCOVERY_PARTS: Final = 3
# RFC 9110, section 5.6.2: what the name of a header is made of; "%" is what escapes.
_TOKEN: Final = "!#$&'*+-.^_`|~"


@dataclass(frozen=True, slots=True)
class Extension(Target):
    """An endpoint of an extension server.

    Attributes:
        bundle: PEM of the authorities that may have signed its certificate; empty: the system's.
        unsafe: its certificate is not looked at.
    """

    bundle: bytes = b""
    unsafe: bool = False


class ExtensionBackends(Backends):
    """Opens connections to extension servers; shows them who this server is.

    Args:
        options: of the server.
    """

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        directory = options.data_dir / "pki"
        self._files: tuple[Path, Path] = directory / f"{CLIENT}.crt", directory / f"{CLIENT}.key"
        self._made: dict[tuple[bytes, bool], tuple[float, ssl.SSLContext]] = {}

    def context(self, target: Target, *, insecure: bool = False) -> ssl.SSLContext | None:
        """Return how TLS is spoken with an extension server.

        Raises:
            ApiError: a certificate cannot be used.
        """
        assert isinstance(target, Extension)
        key = (target.bundle, target.unsafe)
        try:
            # It is renewed while we run.
            changed = self._files[0].stat().st_mtime
            found = self._made.get(key)
            if found is None or found[0] != changed:
                found = self._made[key] = (changed, self._context(target))
        except (OSError, ssl.SSLError, ValueError) as error:
            text = f"TLS with {target.server_name}: {error}: see caBundle of its APIService"
            raise ApiError("InternalError", text) from error
        return found[1]

    def forget(self) -> None:
        """Forget what bundles of former APIServices were made into."""
        self._made.clear()

    def _context(self, target: Extension) -> ssl.SSLContext:
        bundle = target.bundle.decode("ascii", "replace") or None
        context = ssl.create_default_context(cadata=bundle)
        if target.unsafe:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(*self._files)
        return context


class Forwarder:
    """Answers requests for the groups of extension servers.

    Args:
        registered: the APIServices.
        backends: to connect by.
    """

    def __init__(self, registered: Registered, backends: ExtensionBackends) -> None:
        self._registered = registered
        self._backends = backends

    def extension(self, service: Object) -> Extension:
        """Return an endpoint of an APIService.

        Raises:
            ResolveError: there is none.
        """
        spec = service["spec"]
        wanted = spec["service"]
        namespace, name = wanted["namespace"], wanted["name"]
        found = resolve(
            self._registered.service(namespace, name),
            self._registered.slices(namespace, name),
            name,
            wanted["port"],
        )
        return Extension(
            "https",
            found.address,
            found.port,
            server_name=f"{name}.{namespace}.svc",
            bundle=base64.b64decode(spec.get("caBundle") or ""),
            unsafe=bool(spec.get("insecureSkipTLSVerify")),
        )

    async def forward(self, request: web.Request, service: Object) -> web.StreamResponse:
        """Answer with what an extension server answers."""
        if not is_available(service):
            return _refused("service unavailable")
        try:
            target = self.extension(service)
        except ResolveError:
            return _refused("service unavailable")
        raw = request.rel_url.raw_path
        more = headers_of(request[USER])
        # Discovery is asked for by everybody all the time.
        parts = raw.strip("/").split("/")
        brief = request[INFO] is None and len(parts) == _DISCOVERY_PARTS
        try:
            async with asyncio.timeout(_DISCOVERY_SECONDS if brief else None):
                if is_upgrade(request.headers.items()):
                    query = request.rel_url.raw_query_string
                    path = f"{raw}?{query}" if query else raw
                    return await serve_upgrade(request, self._backends, target, path, more)
                return await pass_on(
                    request, self._backends, target, Place("", raw), more=more, redirects=False
                )
        except TimeoutError:
            return _refused("error trying to reach service: context deadline exceeded")
        except ApiError as error:
            return _refused(str(error), 500 if error.reason == "InternalError" else 503)


def is_available(service: Object) -> bool:
    """Whether an APIService answered when it was last asked."""
    return any(
        one.get("type") == "Available" and one.get("status") == "True"
        for one in service.get("status", {}).get("conditions") or ()
    )


def headers_of(user: User) -> Headers:
    """Return the headers by which an extension server is told who asks (pure)."""
    found = [(USER_HEADER, user.name)]
    if user.uid:
        found.append((UID_HEADER, user.uid))
    found += [(GROUP_HEADER, group) for group in user.groups]
    for key, values in user.extra.items():
        name = f"{EXTRA_HEADER}{quote(key, safe=_TOKEN)}"
        found += [(name, value) for value in values]
    return found


def _refused(text: str, status: int = 503) -> web.Response:
    return web.Response(
        status=status, text=f"{text}\n", headers={"X-Content-Type-Options": "nosniff"}
    )
