"""Metadata of objects: ``ObjectMeta`` and what refers to objects or selects them."""

from __future__ import annotations

from typing import Any

from .base import ApiStruct, Int64, Time


class OwnerReference(ApiStruct):
    """The object that owns this one."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(ApiStruct):
    """``metadata`` of any object."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    self_link: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: Int64 = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: Int64 | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    finalizers: list[str] = []
    managed_fields: list[dict[str, Any]] = []


class LabelSelectorRequirement(ApiStruct):
    """One expression over labels."""

    key: str = ""
    operator: str = ""
    values: list[str] = []


class LabelSelector(ApiStruct):
    """Labels to match, all of them."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []


class LocalObjectReference(ApiStruct):
    """An object of the pod's namespace, by name."""

    name: str = ""


class ObjectReference(ApiStruct):
    """Any object, as events name it."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""
