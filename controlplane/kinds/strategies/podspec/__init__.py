"""Pod specs, in pods and in templates: their defaults and what can be wrong with them."""

from __future__ import annotations

from controlplane.kinds.strategies.podspec.advice import pod_warnings
from controlplane.kinds.strategies.podspec.checks import check_pod_spec, check_pod_template
from controlplane.kinds.strategies.podspec.defaults import default_pod, default_pod_spec

__all__ = [
    "check_pod_spec",
    "check_pod_template",
    "default_pod",
    "default_pod_spec",
    "pod_warnings",
]
