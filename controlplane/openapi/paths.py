"""The paths of resources, with what can be asked there (pure).

Clients find out here which kinds a path is for and which parameters it takes: kubectl looks for
``fieldValidation`` and ``dryRun`` before it relies on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlplane.api.resource import Resource

Schema = dict[str, Any]
Refer = Callable[[str], Schema]
"""Returns a reference to a type; a name that ends with ``List`` is that of a list."""

_MEDIA: Final = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCHES: Final = (
    "application/json-patch+json", "application/merge-patch+json",
    "application/strategic-merge-patch+json", "application/apply-patch+yaml",
)  # fmt: skip
_PARAMETERS: Final = {
    "allowWatchBookmarks": ("boolean", "Send bookmarks in a watch."),
    "continue": ("string", "Token of the piece of a list that came before."),
    "dryRun": ("string", "All: do everything but keep the result."),
    "fieldManager": ("string", "Name of who owns the fields that are written."),
    "fieldSelector": ("string", "Only objects with these values of fields."),
    "fieldValidation": ("string", "What happens to unknown fields: Strict, Warn or Ignore."),
    "force": ("boolean", "Take over fields that others own; for an apply."),
    "gracePeriodSeconds": ("integer", "Seconds that the object may take to end."),
    "labelSelector": ("string", "Only objects with these labels."),
    "limit": ("integer", "Objects of one piece of a list, at most."),
    "orphanDependents": ("boolean", "Keep what the object owns; see propagationPolicy."),
    "propagationPolicy": ("string", "What happens to dependents: Background, Foreground, Orphan."),
    "resourceVersion": ("string", "Version that is listed, or from which on is watched."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Begin a watch with all that is there."),
    "timeoutSeconds": ("integer", "How long a list or a watch may take."),
    "watch": ("boolean", "Send changes as they happen."),
    "pretty": ("string", "Print the answer for people."),
}
_LISTING: Final = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit",
    "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_WRITING: Final = ("dryRun", "fieldManager", "fieldValidation")
_DELETING: Final = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
# Verb of discovery -> method, word of x-kubernetes-action, word of the operation's id, parameters.
_OF_ALL: Final = {
    "list": ("get", "list", "list", _LISTING),
    "create": ("post", "post", "create", _WRITING),
    "deletecollection": (
        "delete", "deletecollection", "deleteCollection",
        (*_DELETING, "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
         "resourceVersionMatch"),
    ),
}  # fmt: skip
_OF_ONE: Final = {
    "get": ("get", "get", "read", ()),
    "update": ("put", "put", "replace", _WRITING),
    "patch": ("patch", "patch", "patch", (*_WRITING, "force")),
    "delete": ("delete", "delete", "delete", _DELETING),
    "create": ("post", "post", "create", _WRITING),
}
_STATUS: Final = "meta.v1.Status"
_OPTIONS: Final = "meta.v1.DeleteOptions"


def paths_of(resource: Resource, version: int, refer: Refer, types: dict[str, str]) -> Schema:
    """Return the path items of a resource and its subresources.

    Args:
        resource: it.
        version: of OpenAPI, 2 or 3.
        refer: returns references to types.
        types: names of types by ``group/version/Kind``, for the kinds of subresources.
    """
    prefix = f"/{'apis' if resource.group else 'api'}/{resource.api_version}"
    scope = f"{prefix}/namespaces/{{namespace}}" if resource.namespaced else prefix
    writer = _Writer(resource, version, refer)
    found: Schema = {}
    verbs = [verb for verb in resource.verbs if verb in _OF_ALL]
    if verbs:
        found[f"{scope}/{resource.plural}"] = writer.item("", verbs, _OF_ALL, resource.type_name)
    if resource.namespaced and "list" in verbs:
        everywhere = writer.item("", ["list"], _OF_ALL, resource.type_name, everywhere=True)
        found[f"{prefix}/{resource.plural}"] = everywhere
    one = f"{scope}/{resource.plural}/{{name}}"
    verbs = [verb for verb in resource.verbs if verb in _OF_ONE and verb != "create"]
    if verbs:
        found[one] = writer.item("{name}", verbs, _OF_ONE, resource.type_name)
    for name, facts in resource.subresources.items():
        group = facts.get("group", resource.group)
        key = f"{group}/{facts.get('version', resource.version)}/{facts['kind']}".removeprefix("/")
        type_name = resource.type_name if facts["kind"] == resource.kind else types.get(key, "")
        verbs = [verb for verb in facts["verbs"] if verb in _OF_ONE]
        found[f"{one}/{name}"] = writer.item(f"{{name}}/{name}", verbs, _OF_ONE, type_name, facts)
    return found


class _Writer:
    """Writes the operations of one resource."""

    def __init__(self, resource: Resource, version: int, refer: Refer) -> None:
        self._resource = resource
        self._version = version
        self._refer = refer

    def item(
        self,
        below: str,
        verbs: list[str],
        table: dict[str, tuple[str, str, str, tuple[str, ...]]],
        type_name: str,
        facts: Schema | None = None,
        *,
        everywhere: bool = False,
    ) -> Schema:
        """Return a path item.

        Args:
            below: what follows the plural name in the path.
            verbs: that are served there.
            table: of them.
            type_name: of what is sent and answered; "" for anything.
            facts: of the subresource, None: it is the resource itself.
            everywhere: the path is for all namespaces.
        """
        resource = self._resource
        gvk = {
            "group": (facts or {}).get("group", resource.group),
            "version": (facts or {}).get("version", resource.version),
            "kind": (facts or {}).get("kind", resource.kind),
        }
        parameters = [self._in_path("name", "Name of the object.")] if below else []
        if resource.namespaced and not everywhere:
            parameters.append(self._in_path("namespace", "Namespace of the object."))
        parameters.append(self._in_query("pretty"))
        item: Schema = {"parameters": parameters}
        group = (resource.group.partition(".")[0] or "core").capitalize()
        place = "ForAllNamespaces" if everywhere else ""
        sub = below.rpartition("/")[2].capitalize() if facts else ""
        scope = "Namespaced" if resource.namespaced and not everywhere else ""
        for verb in verbs:
            method, action, word, names = table[verb]
            operation: Schema = {
                "tags": [f"{group.lower()}_{resource.version}"],
                "description": f"{word} {resource.kind} {sub}".strip(),
                "operationId": f"{word}{group}{resource.version.capitalize()}{scope}"
                f"{resource.kind}{sub}{place}",
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
            }
            operation["parameters"] = [self._in_query(name) for name in names]
            self._bodies(operation, verb, type_name)
            item[method] = operation
        return item

    def _bodies(self, operation: Schema, verb: str, type_name: str) -> None:
        answered = {"list": f"{type_name}List", "delete": _STATUS, "deletecollection": _STATUS}
        sent = {"create": type_name, "update": type_name, "delete": _OPTIONS,
                "deletecollection": _OPTIONS, "patch": "meta.v1.Patch"}  # fmt: skip
        answer = self._schema(answered.get(verb, type_name))
        codes = {"200": "OK", "401": "Unauthorized"}
        if verb in ("create", "update", "patch"):
            codes["201"] = "Created"
        if verb in ("create", "delete"):
            codes["202"] = "Accepted"
        body = self._schema(sent[verb]) if verb in sent else None
        needed = verb not in ("delete", "deletecollection")
        if self._version == 2:
            operation["produces"] = list(_MEDIA)
            operation["consumes"] = self._patches() if verb == "patch" else ["*/*"]
            if body is not None:
                operation["parameters"].insert(
                    0, {"name": "body", "in": "body", "schema": body, **_if("required", needed)}
                )
            operation["responses"] = {
                code: {"description": text, **({} if code == "401" else {"schema": answer})}
                for code, text in sorted(codes.items())
            }
            return
        if body is not None:
            media = self._patches() if verb == "patch" else ["*/*"]
            content = {one: {"schema": body} for one in media}
            operation["requestBody"] = {"content": content, **_if("required", needed)}
        content = {one: {"schema": answer} for one in _MEDIA}
        operation["responses"] = {
            code: {"description": text, **({} if code == "401" else {"content": content})}
            for code, text in sorted(codes.items())
        }

    def _patches(self) -> list[str]:
        """Return the kinds of patches that can be sent; kubectl chooses by them."""
        typed = self._resource.strategy.typed
        return [one for one in _PATCHES if typed or "strategic" not in one]

    def _schema(self, name: str) -> Schema:
        if name == "meta.v1.Patch" or name in ("", "List"):
            return {"type": "object"}
        return self._refer(name)

    def _in_query(self, name: str) -> Schema:
        kind, text = _PARAMETERS[name]
        typed = {"type": kind, "uniqueItems": True}
        shape = typed if self._version == 2 else {"schema": typed}
        return {"name": name, "in": "query", "description": text, **shape}

    def _in_path(self, name: str, text: str) -> Schema:
        typed = {"type": "string", "uniqueItems": True}
        shape = typed if self._version == 2 else {"schema": typed}
        return {"name": name, "in": "path", "description": text, "required": True, **shape}


def _if(key: str, value: bool) -> Schema:
    return {key: True} if value else {}
