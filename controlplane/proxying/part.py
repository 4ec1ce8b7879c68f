"""Hooks the proxying of requests into the server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from aiohttp import web
from yarl import URL

from controlplane.api import codec
from controlplane.api.errors import ApiError, bad_request
from controlplane.api.resource import Object
from controlplane.auth.authorization.attributes import attributes_of, require
from controlplane.plane import Call, Plane
from controlplane.proxying import targets
from controlplane.proxying.backends import Backends
from controlplane.proxying.headers import is_upgrade
from controlplane.proxying.parameters import (
    is_set,
    log_parameters,
    port_parameters,
    stream_parameters,
)
from controlplane.proxying.passing import Place, pass_on, stream_log
from controlplane.proxying.targets import Target
from controlplane.proxying.upgrading import serve_upgrade

_LOOKUP_SECONDS: Final = 5.0


def install(plane: Plane) -> None:
    """Hook in."""
    proxies = Proxies(plane)
    plane.handlers["", "pods", "log"] = proxies.log
    plane.handlers["", "pods", "exec"] = proxies.command
    plane.handlers["", "pods", "attach"] = proxies.command
    plane.handlers["", "pods", "portforward"] = proxies.port_forward
    plane.handlers["", "pods", "proxy"] = proxies.pod
    plane.handlers["", "services", "proxy"] = proxies.service
    plane.handlers["", "nodes", "proxy"] = proxies.node
    plane.background.append(proxies.close_at_the_end)


class Proxies:
    """Answers requests that go on to somebody else.

    Args:
        plane: the parts.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._backends = Backends(plane.options)

    async def close_at_the_end(self) -> None:
        """Wait for the end of the server, and close the connections."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._backends.close()

    async def log(self, call: Call) -> web.StreamResponse:
        """``GET pods/NAME/log``."""
        parameters = log_parameters(call.request.query, call.info.name)
        pod = self._get("pods", call.info.namespace, call.info.name)
        container = targets.container_of(pod, call.request.query.get("container", ""))
        if not pod["spec"].get("nodeName"):
            # It is nowhere yet, and has said nothing.
            return web.Response(status=204)
        target = self._kubelet(pod["spec"]["nodeName"])
        path = f"/containerLogs/{call.info.namespace}/{call.info.name}/{container}"
        insecure = is_set(call.request.query, "insecureSkipTLSVerifyBackend")
        return await stream_log(
            call.request, self._backends, target, path, parameters, insecure=insecure
        )

    async def command(self, call: Call) -> web.StreamResponse:
        """``pods/NAME/exec`` and ``pods/NAME/attach``, by GET (WebSocket) or POST (SPDY)."""
        self._require_create(call)
        pod = self._get("pods", call.info.namespace, call.info.name)
        container = targets.container_of(pod, call.request.query.get("container", ""))
        kind = call.info.subresource
        parameters = stream_parameters(call.request.query, kind)
        path = f"/{kind}/{call.info.namespace}/{call.info.name}/{container}"
        return await self._upgrade(call, pod, str(URL(path).with_query(parameters)))

    async def port_forward(self, call: Call) -> web.StreamResponse:
        """``pods/NAME/portforward``."""
        self._require_create(call)
        pod = self._get("pods", call.info.namespace, call.info.name)
        parameters = port_parameters(call.request.query)
        path = f"/portForward/{call.info.namespace}/{call.info.name}"
        return await self._upgrade(call, pod, str(URL(path).with_query(parameters)))

    async def pod(self, call: Call) -> web.StreamResponse:
        """``pods/NAME/proxy/...``."""
        named = targets.split_name(call.info.name, "pod")
        pod = self._get("pods", call.info.namespace, named.name)
        return await self._pass_on(call, targets.pod_target(pod, named))

    async def service(self, call: Call) -> web.StreamResponse:
        """``services/NAME/proxy/...``: one of its endpoints."""
        named = targets.split_name(call.info.name, "service")
        service = self._get("services", call.info.namespace, named.name)
        try:
            endpoints = self._get("endpoints", call.info.namespace, named.name)
        except ApiError:
            endpoints = None
        target = targets.service_target(service, endpoints, named, call.info.name)
        return await self._pass_on(call, target)

    async def node(self, call: Call) -> web.StreamResponse:
        """``nodes/NAME/proxy/...``: its kubelet, or another port of its."""
        named = targets.split_name(call.info.name, "node")
        target = self._kubelet(named.name)
        await _require_reachable(target.host)
        port = targets.port_number(named.port)
        if port not in (0, target.port):
            target = Target(named.scheme or "http", target.host, port)
        return await self._pass_on(call, target)

    def _require_create(self, call: Call) -> None:
        """Refuse who may only read: a stream changes things, though WebSockets begin with GET.

        Source: the feature gate AuthorizePodWebsocketUpgradeCreatePermission of Kubernetes.

        Raises:
            ApiError: the user may not create this subresource.
        """
        authorizer = self._plane.authorizer
        if authorizer is None or call.info.verb == "create":
            return
        info = replace(call.info, verb="create")
        wanted = attributes_of(call.request, info, call.context.user)
        require(authorizer, wanted)

    async def _upgrade(self, call: Call, pod: Object, path: str) -> web.StreamResponse:
        node = pod["spec"].get("nodeName", "")
        if not node:
            raise bad_request(f"pod {call.info.name} does not have a host assigned")
        target = self._kubelet(node)
        if not is_upgrade(call.request.headers.items()):
            raise bad_request("Upgrade request required")
        return await serve_upgrade(call.request, self._backends, target, path)

    async def _pass_on(self, call: Call, target: Target) -> web.StreamResponse:
        request = call.request
        place = place_of(request.rel_url.raw_path, namespaced=call.resource.namespaced)
        if is_upgrade(request.headers.items()):
            query = request.rel_url.raw_query_string
            path = f"{place.path or '/'}?{query}" if query else place.path or "/"
            return await serve_upgrade(request, self._backends, target, path)
        if not place.path:
            if request.method in ("GET", "HEAD"):
                # Relative links of the page begin where it is.
                query = request.rel_url.raw_query_string
                location = f"{place.prefix}/" + (f"?{query}" if query else "")
                return web.Response(status=301, headers={"Location": location})
            place = Place(place.prefix, "/")
        return await pass_on(request, self._backends, target, place)

    def _kubelet(self, node: str) -> Target:
        return targets.kubelet_of(
            self._get("nodes", "", node), self._plane.options.kubelet_preferred_address_types
        )

    def _get(self, plural: str, namespace: str, name: str) -> Object:
        resource = self._plane.catalog.find("", "v1", plural)
        assert resource is not None
        return codec.decode(self._plane.registry.get(resource, namespace, name))


def place_of(raw_path: str, *, namespaced: bool) -> Place:
    """Return where a proxy stands, by the path of a request for it.

    Args:
        raw_path: encoded, such as ``/api/v1/nodes/one/proxy/metrics``.
        namespaced: of the resource.
    """
    parts = raw_path.split("/")
    count = 8 if namespaced else 6
    rest = parts[count:]
    return Place("/".join(parts[:count]), f"/{'/'.join(rest)}" if rest else "")


async def _require_reachable(host: str) -> None:
    """Refuse a host one of whose addresses may not be connected to.

    Raises:
        ApiError: it has such an address, or none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_SECONDS):
            found = await loop.getaddrinfo(host, None)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise bad_request(f"lookup {host}: {error or 'no answer in time'}") from error
    for *_, address in found:
        targets.require_reachable(str(address[0]))
