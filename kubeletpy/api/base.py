"""What all structs of the Kubernetes API share: spelling, strictness, omission of defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
"""A Go ``int32``: JSON numbers beyond it are errors, not wrapped."""
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A Go ``int64``."""
IntOrString = int | str
"""A port by number or by the name of a container port."""
Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""An instant with a time zone, written in RFC 3339."""

# camelCase of Kubernetes writes some initialisms in capitals; a rule cannot guess which.
_INITIALISMS = {
    "container_id": "containerID",
    "dataset_uuid": "datasetUUID",
    "disk_uri": "diskURI",
    "downward_api": "downwardAPI",
    "host_ip": "hostIP",
    "host_ipc": "hostIPC",
    "host_ips": "hostIPs",
    "host_pid": "hostPID",
    "image_id": "imageID",
    "pd_id": "pdID",
    "pod_ip": "podIP",
    "pod_ips": "podIPs",
    "resource_id": "resourceID",
    "scale_io": "scaleIO",
    "set_hostname_as_fqdn": "setHostnameAsFQDN",
    "storage_policy_id": "storagePolicyID",
    "target_wwns": "targetWWNs",
    "volume_id": "volumeID",
}


def json_name(attribute: str) -> str:
    """Return the name in JSON of a Python attribute: ``host_ip`` -> ``hostIP``."""
    special = _INITIALISMS.get(attribute)
    if special is not None:
        return special
    head, *tail = attribute.rstrip("_").split("_")
    return head + "".join(part.capitalize() for part in tail)


class ApiStruct(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, rename=json_name):
    """Base of all API structs.

    Attributes are in snake_case, JSON in Kubernetes' camelCase. Every field has a default (the
    zero value of Go, or None where Go has a pointer), so that what is missing is reported by
    validation with its path, all at once, and not by the decoder, one at a time.
    """


def now() -> datetime:
    """Return the present in UTC with the resolution of Kubernetes' ``Time``: one second."""
    return datetime.now(UTC).replace(microsecond=0)


def micro_now() -> datetime:
    """Return the present in UTC with the resolution of Kubernetes' ``MicroTime``."""
    return datetime.now(UTC)
