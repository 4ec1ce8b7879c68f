"""What is special about CustomResourceDefinitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.customresources.definition import DefinitionStrategy

APIEXTENSIONS: Final[Mapping[str, Strategy]] = {
    "apiextensions.k8s.io/customresourcedefinitions": DefinitionStrategy()
}
