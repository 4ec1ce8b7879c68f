"""apiregistration.k8s.io/v1 APIService."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import subdomain_problems
from controlplane.api.metadata import now, required, unsupported, wrong
from controlplane.api.resource import AGE, Column, Context, Object, Strategy

PORT: Final = 443
_VERSION: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_MOST_LABEL: Final = 63
_STATUSES: Final = ("False", "True", "Unknown")


class APIServiceStrategy(Strategy):
    """API groups and versions, and who serves them."""

    names = "path"
    generation = False
    unconditional = False
    columns = (
        Column("Service", description="The reference to the service that hosts this API."),
        Column("Available", description="Whether this service is available."),
        AGE,
    )

    def default(self, value: Object) -> None:
        """Put in the port of the service."""
        service = value.setdefault("spec", {}).get("service")
        if service is not None and not service.get("port"):
            service["port"] = PORT

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop the status of a client; what the server itself serves is there at once."""
        value["status"] = {}
        if value["spec"].get("service") is None:
            value["status"] = {"conditions": [local_condition(context.now or now())]}

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with name, priorities and service."""
        spec = value["spec"]
        group, version = spec.get("group", ""), spec.get("version", "")
        causes: list[Cause] = []
        if value["metadata"].get("name") != f"{version}.{group}":
            text = f'must be `spec.version+"."+spec.group`: "{version}.{group}"'
            causes.append(wrong("metadata.name", value["metadata"].get("name"), text))
        if not group and version != "v1":
            text = "only v1 may have an empty group and it better be legacy kube"
            causes.append(required("spec.group", text))
        if group:
            causes += [wrong("spec.group", group, why) for why in subdomain_problems(group)]
        if len(version) > _MOST_LABEL or not _VERSION.fullmatch(version):
            text = ("a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
                    "start with an alphabetic character, and end with an alphanumeric "
                    "character")  # fmt: skip
            causes.append(wrong("spec.version", version, text))
        for name, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
            if not 0 < spec.get(name, 0) <= most:
                text = f"must be positive and less than {most}"
                causes.append(wrong(f"spec.{name}", spec.get(name, 0), text))
        return causes + _check_service(spec)

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with conditions."""
        return [
            unsupported(f"status.conditions[{index}].status", one.get("status", ""),
                        list(_STATUSES))
            for index, one in enumerate(value.get("status", {}).get("conditions") or ())
            if one.get("status") not in _STATUSES
        ]  # fmt: skip

    def row(self, value: Object) -> list[Any]:
        """Return the service, and whether it is available."""
        service = value["spec"].get("service")
        where = f"{service['namespace']}/{service['name']}" if service else "Local"
        return [where, _available(value)]


def local_condition(moment: str) -> Object:
    """Return the condition of what the server itself serves, since a moment."""
    return {
        "type": "Available", "status": "True", "lastTransitionTime": moment, "reason": "Local",
        "message": "Local APIServices are always available",
    }  # fmt: skip


def _check_service(spec: Object) -> list[Cause]:
    service, bundle = spec.get("service"), spec.get("caBundle")
    unsafe = spec.get("insecureSkipTLSVerify")
    causes: list[Cause] = []
    if service is None:
        if bundle:
            text = "local APIServices may not have a caBundle"
            causes.append(wrong("spec.caBundle", f"{len(bundle)} bytes", text))
        if unsafe:
            text = "local APIServices may not have insecureSkipTLSVerify"
            causes.append(wrong("spec.insecureSkipTLSVerify", True, text))
        return causes
    causes += [
        required(f"spec.service.{name}") for name in ("namespace", "name") if not service.get(name)
    ]
    if not 0 < service.get("port", 0) < 65536:
        text = "port is not valid: must be between 1 and 65535, inclusive"
        causes.append(wrong("spec.service.port", service.get("port", 0), text))
    if unsafe and bundle:
        text = "may not be true if caBundle is present"
        causes.append(wrong("spec.insecureSkipTLSVerify", True, text))
    return causes


def _available(value: Object) -> str:
    for one in value.get("status", {}).get("conditions") or ():
        if one.get("type") == "Available":
            if one.get("status") != "True" and one.get("reason"):
                return f"{one['status']} ({one['reason']})"
            return str(one.get("status"))
    return "Unknown"


APIREGISTRATION: Final[Mapping[str, Strategy]] = {
    "apiregistration.k8s.io/apiservices": APIServiceStrategy()
}
