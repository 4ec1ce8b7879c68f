"""HTTPS: which path asks for what, and who may.

Source: API reference of the three groups; Kubernetes documentation, "Receiving resources as
Tables".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from controlplane.api.errors import ApiError as SelectorError
from controlplane.api.selectors import LabelSelector, parse_fields, parse_labels
from controlplane.engine.informer import Informer
from controlplane.engine.resources import Object

from . import custom_api, resource_api
from .access import Access, Action, RefusedError
from .collecting import Collector
from .custom_api import Asked, Described
from .documents import Missing

_HEALTH: Final = ("/healthz", "/livez", "/readyz")
_RESOURCE: Final = resource_api.VERSION.split("/")
_CUSTOM: Final = custom_api.CUSTOM
_EXTERNAL: Final = custom_api.EXTERNAL.split("/")
_METHODS: Final = ("GET", "HEAD")
_META: Final = frozenset(("metadata.name", "metadata.namespace"))


class Answers:
    """Answers requests.

    Args:
        access: knows who may.
        collector: knows what is told.
        nodes, pods, services: those that there are.
    """

    def __init__(
        self, access: Access, collector: Collector, nodes: Informer, pods: Informer,
        services: Informer,
    ) -> None:  # fmt: skip
        self._access = access
        self._collector = collector
        self._nodes = nodes
        self._pods = pods
        self._services = services

    def application(self) -> web.Application:
        """Return it as an application for aiohttp."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in _HEALTH:
            well = request.path != "/readyz" or self._collector.rounds > 0
            return web.Response(
                text="ok" if well else "no metrics yet", status=200 if well else 500
            )
        try:
            return await self._served(request)
        except RefusedError as error:
            return _failure(error.status, error.reason, str(error))
        except Missing as error:
            return _failure(404, "NotFound", str(error))
        except SelectorError as error:
            return _failure(400, "BadRequest", str(error))

    async def _served(self, request: web.Request) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        action = action_of(request.method, request.path, parts)
        user = await self._access.user(request)
        await self._access.require(user, action)
        if request.method not in _METHODS:
            text = f"{request.method} is not supported here"
            raise RefusedError(405, "MethodNotAllowed", text)
        if request.query.get("watch", "") in ("1", "true"):
            raise RefusedError(405, "MethodNotAllowed", "watching is not supported here")
        found = self._discovery(parts)
        if found is None and len(parts) > 3:
            found = self._resource(request, parts)
        if found is None:
            text = "the server could not find the requested resource"
            raise RefusedError(404, "NotFound", text)
        return _json(found)

    def _discovery(self, parts: list[str]) -> Object | None:
        if parts[:1] != ["apis"]:
            return None
        groups = {
            _RESOURCE[0]: [_RESOURCE[1]], _CUSTOM: list(custom_api.CUSTOM_VERSIONS),
            _EXTERNAL[0]: [_EXTERNAL[1]],
        }  # fmt: skip
        if len(parts) == 1:
            told = [_group(group, versions) for group, versions in groups.items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": told}
        if len(parts) == 2 and parts[1] in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], groups[parts[1]])}
        if len(parts) != 3 or parts[2] not in groups.get(parts[1], ()):
            return None
        if parts[1] == _CUSTOM:
            return custom_api.custom_resources(self._collector.series, parts[2])
        if parts[1] == _EXTERNAL[0]:
            return custom_api.external_resources(self._collector.series)
        return resource_api.RESOURCES

    def _resource(self, request: web.Request, parts: list[str]) -> Object | None:
        group, rest = parts[1:3], parts[3:]
        if group == _RESOURCE:
            return self._usage(request, rest)
        if group[0] == _CUSTOM and group[1] in custom_api.CUSTOM_VERSIONS:
            return self._custom(request.query, group[1], rest)
        if group == _EXTERNAL and rest[0] == "namespaces" and len(rest) == 3:
            selector = parse_labels(request.query.get("labelSelector", ""))
            return custom_api.external_values(
                self._collector.series, self._pods, rest[2], selector.matches
            )
        return None

    def _usage(self, request: web.Request, rest: list[str]) -> Object | None:
        store, namespace = self._collector.usage, ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if rest[0] == "nodes" and not namespace:
            if len(rest) == 2:
                node = self._nodes.find("", rest[1])
                return _shaped(request, resource_api.one_node(node, rest[1], store))
            items = resource_api.nodes_listed(_chosen(self._nodes, request.query), store)
            return _shaped_list(request, "NodeMetrics", items)
        if rest[0] != "pods":
            return None
        if len(rest) == 2 and namespace:
            pod = self._pods.find(namespace, rest[1])
            return _shaped(request, resource_api.one_pod(pod, namespace, rest[1], store))
        if len(rest) != 1:
            return None
        pods = self._pods.of_namespace(namespace) if namespace else list(self._pods)
        items = resource_api.pods_listed(_chosen(pods, request.query), store)
        return _shaped_list(request, "PodMetrics", items)

    def _custom(self, query: Mapping[str, str], version: str, rest: list[str]) -> Object | None:
        text = query.get("metricLabelSelector", "")
        selector = parse_labels(text)
        series = self._collector.series
        if rest[0] != "namespaces" or len(rest) not in (4, 5):
            return None
        namespace, name = rest[1], rest[-1]
        asked = Asked(name, version, selector.matches, object_of(selector) if text else None)
        if len(rest) == 4:
            if rest[2] != "metrics":
                return None
            pods = tuple(self._pods.of_namespace(namespace))
            objects = [Described("Namespace", "", namespace, pods)]
            return custom_api.values(series, objects, asked, "namespaces")
        resource, wanted = rest[2].partition(".")[0], rest[3]
        if rest[2] == "pods":
            objects = self._pods_described(namespace, wanted, query)
        elif rest[2] == "services":
            objects = self._services_described(namespace, wanted, query)
        else:
            raise Missing(f"the server could not find the metric {name} for {rest[2]}")
        return custom_api.values(series, objects, asked, resource)

    def _pods_described(
        self, namespace: str, name: str, query: Mapping[str, str]
    ) -> list[Described]:
        if name == "*":
            pods = _chosen(self._pods.of_namespace(namespace), query)
        else:
            found = self._pods.find(namespace, name)
            pods = [found] if found is not None else []
        return [Described("Pod", namespace, pod["metadata"]["name"], (pod,)) for pod in pods]

    def _services_described(
        self, namespace: str, name: str, query: Mapping[str, str]
    ) -> list[Described]:
        if name == "*":
            services = _chosen(self._services.of_namespace(namespace), query)
        else:
            found = self._services.find(namespace, name)
            services = [found] if found is not None else []
        described = []
        for service in services:
            wanted = service["spec"].get("selector") or {}
            pods = tuple(
                pod for pod in self._pods.of_namespace(namespace)
                if wanted and wanted.items() <= (pod["metadata"].get("labels") or {}).items()
            )  # fmt: skip
            described.append(Described("Service", namespace, service["metadata"]["name"], pods))
        return described


def action_of(method: str, path: str, parts: list[str]) -> Action:
    """Return what a request wants, as authorization sees it (pure).

    Args:
        method: of HTTP.
        path: of the URL.
        parts: of the path, without empty ones.
    """
    if parts[:1] != ["apis"] or len(parts) < 4:
        return Action(method.lower(), path=path)
    group, version, rest, namespace = parts[1], parts[2], parts[3:], ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "", "")[:3]
    verb = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch",
            "DELETE": "delete"}.get(method, method.lower())  # fmt: skip
    if verb == "get" and not name:
        verb = "list"
    return Action(verb, "", group, version, resource, subresource, namespace, name)


def object_of(selector: LabelSelector) -> Object:
    """Return a selector as an object tells it (pure)."""
    names = {"in": "In", "notin": "NotIn", "exists": "Exists", "missing": "DoesNotExist"}
    expressions: list[Object] = []
    labels: dict[str, str] = {}
    for one in selector.requirements:
        if one.operator == "in" and len(one.values) == 1:
            labels[one.key] = next(iter(one.values))
            continue
        made: Object = {"key": one.key, "operator": names.get(one.operator, one.operator)}
        if one.values:
            made["values"] = sorted(one.values)
        expressions.append(made)
    found: Object = {}
    if labels:
        found["matchLabels"] = labels
    if expressions:
        found["matchExpressions"] = expressions
    return found


def _chosen(values: Any, query: Mapping[str, str]) -> list[Object]:
    labels = parse_labels(query.get("labelSelector", ""))
    fields = parse_fields(query.get("fieldSelector", ""), _META)
    return [
        value for value in values
        if labels.matches(value["metadata"].get("labels") or {}) and fields.matches({
            "metadata.name": value["metadata"]["name"],
            "metadata.namespace": value["metadata"].get("namespace", "")})
    ]  # fmt: skip


def _wants_table(request: web.Request) -> bool:
    """Whether a table is what a client takes first."""
    first = request.headers.get("Accept", "").split(",")[0]
    wanted = [part.strip() for part in first.split(";")]
    return "as=Table" in wanted and "v=v1" in wanted


def _shaped(request: web.Request, item: Object) -> Object:
    return resource_api.as_table([item]) if _wants_table(request) else item


def _shaped_list(request: web.Request, kind: str, items: list[Object]) -> Object:
    if _wants_table(request):
        return resource_api.as_table(items)
    return resource_api.as_list(kind, items)


def _group(group: str, versions: list[str]) -> Object:
    told = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": told, "preferredVersion": told[0]}


def _json(value: Object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json")


def _failure(status: int, reason: str, text: str) -> web.Response:
    return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                  "message": text, "reason": reason, "code": status}, status)  # fmt: skip
