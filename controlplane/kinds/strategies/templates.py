"""Pod templates as part of another kind: defaults, checks, warnings, which pods are meant."""

from __future__ import annotations

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.checks import check_selector, is_empty_selector, matches
from controlplane.kinds.strategies.podspec import (
    check_pod_template,
    default_pod_spec,
    pod_warnings,
)


def default_template(owner: Object, key: str = "template") -> Object:
    """Put the defaults into the pod template of an owner's spec, and return it."""
    template: Object = owner.setdefault(key, {})
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))
    return template


def check_required_selector(spec: Object, path: str, kind: str) -> list[Cause]:
    """Return what is wrong with the selector of an owner that must have one with conditions."""
    selector = spec.get("selector")
    if selector is None:
        return [required(f"{path}.selector")]
    causes = check_selector(selector, f"{path}.selector")
    if is_empty_selector(selector):
        text = f"empty selector is invalid for {kind}"
        causes.append(wrong(f"{path}.selector", selector, text))
    return causes


def check_selected(spec: Object, path: str) -> list[Cause]:
    """Refuse a selector that does not select the template beside it."""
    selector, template = spec.get("selector"), spec.get("template", {})
    found = template.get("metadata", {}).get("labels", {})
    matching = matches(selector, found)
    if matching is None:
        return [wrong(f"{path}.selector", selector, "invalid label selector")]
    if selector is not None and is_empty_selector(selector):
        return []
    if matching:
        return []
    text = "`selector` does not match template `labels`"
    return [wrong(f"{path}.template.metadata.labels", found, text)]


def check_lasting_template(template: Object, path: str, kind: str) -> list[Cause]:
    """Return what is wrong with a template whose pods are to run for ever."""
    causes = check_pod_template(template, path)
    spec = template.get("spec", {})
    policy = spec.get("restartPolicy")
    if policy != "Always":
        causes.append(unsupported(f"{path}.spec.restartPolicy", policy or "", ["Always"]))
    if "activeDeadlineSeconds" in spec:
        text = f"activeDeadlineSeconds in {kind} is not supported"
        causes.append(forbidden(f"{path}.spec.activeDeadlineSeconds", text))
    return causes


def warn_of_template(template: Object, path: str) -> list[str]:
    """Return what a user should hear about a template."""
    return pod_warnings(template, path)
