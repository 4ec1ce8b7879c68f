"""What every namespace has: the account "default" and the certificate of the authority.

Source: Kubernetes documentation, "Service Accounts", "Root CA ConfigMap" (``kube-root-ca.crt``).
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import (
    ACCOUNTS,
    CONFIG_MAPS,
    NAMESPACES,
    Object,
    Resource,
    is_deleting,
)
from kubeletpy_common.apiclient.errors import ApiError

ROOT_CONFIG: Final = "kube-root-ca.crt"
DESCRIPTION: Final = "kubernetes.io/description"
ROOT_TEXT: Final = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


class _Furnisher(Controller):
    """Keeps one object of a name in every namespace that is not on its way out."""

    resource: ClassVar[Resource]
    object_name: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        of = context.informers.of
        self._namespaces = of(NAMESPACES)
        self._objects = of(self.resource, field_selector=f"metadata.name={self.object_name}")
        self._namespaces.listen(self._namespace_changed)
        self._objects.listen(self._object_changed)

    @abc.abstractmethod
    def wanted(self) -> dict[str, Any] | None:
        """Return the fields that it must have; None: there is nothing to furnish."""

    def _namespace_changed(self, before: Object | None, value: Object | None) -> None:
        if before is None and value is not None:
            self.queue.add(value["metadata"]["name"])

    def _object_changed(self, before: Object | None, value: Object | None) -> None:
        found = value or before
        assert found is not None
        self.queue.add(found["metadata"]["namespace"])

    async def sync(self, key: str) -> float | None:
        """See `Controller`; the keys are namespaces."""
        namespace, wanted = self._namespaces.get(key), self.wanted()
        if namespace is None or is_deleting(namespace) or wanted is None:
            return None
        known = self._objects.find(key, self.object_name)
        content = {name: value for name, value in wanted.items() if name != "metadata"}
        try:
            if known is None:
                meta = {**wanted.get("metadata", {}), "namespace": key, "name": self.object_name}
                made = await self.context.writer.create(
                    self.resource, {**content, "metadata": meta}
                )
                self._objects.learn(made)
            elif any(known.get(name) != value for name, value in content.items()):
                version = known["metadata"]["resourceVersion"]
                changed = {**known, **content}
                changed["metadata"] = {**known["metadata"], "resourceVersion": version}
                self._objects.learn(await self.context.writer.update(self.resource, changed))
        except ApiError as error:
            # Made, or on its way out with its namespace, meanwhile.
            if error.reason not in ("AlreadyExists", "NotFound") and not _is_terminating(error):
                raise
        return None


def _is_terminating(error: ApiError) -> bool:
    causes = error.details.get("causes") or ()
    return any(one.get("reason") == "NamespaceTerminating" for one in causes)


class DefaultAccounts(_Furnisher):
    """Keeps the account "default" in every namespace."""

    name: ClassVar[str] = "serviceaccount-controller"
    resource = ACCOUNTS
    object_name = "default"

    def wanted(self) -> dict[str, Any] | None:
        """See `_Furnisher`."""
        return {}


class RootCertificates(_Furnisher):
    """Keeps the certificates that sign the server's in every namespace.

    Option: ``root_ca_file``; without it those of the kubeconfig.
    """

    name: ClassVar[str] = "root-ca-certificate-publisher-controller"
    resource = CONFIG_MAPS
    object_name = ROOT_CONFIG

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        file = context.options.get("root_ca_file") or ""
        access = context.client.access
        self._text = Path(file).read_text() if file else access.ca.decode()

    def wanted(self) -> dict[str, Any] | None:
        """See `_Furnisher`."""
        if not self._text:
            return None
        return {"metadata": {"annotations": {DESCRIPTION: ROOT_TEXT}},
                "data": {"ca.crt": self._text}}  # fmt: skip
