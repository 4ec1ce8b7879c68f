"""The typed API of a pod, and the pure functions over it.

Public API (import from the modules named here):

``api.pod``
    ``Pod``, ``PodList``, ``PodSpec``, ``PodSecurityContext``, ``HostAlias``, ``PodDNSConfig``.
``api.container``
    ``Container``, ``Probe``, ``Lifecycle``, ``LifecycleHandler``, ``ExecAction``,
    ``HTTPGetAction``, ``TCPSocketAction``, ``SleepAction``, ``ContainerPort``, ``EnvVar``,
    ``ResourceRequirements``, ``SecurityContext``, ``VolumeMount``.
``api.status``
    ``PodStatus``, ``PodCondition``, ``ContainerStatus``, ``ContainerState`` (waiting, running,
    terminated), ``HostIP``, ``PodIP``.
``api.events``
    ``Event``, ``new_event(reference, type, reason, message, host=)``,
    ``pod_reference(pod, container)``, ``NORMAL``, ``WARNING``.
``api.base``
    ``now()`` (UTC, whole seconds), ``ApiStruct``.
``api.codec``
    ``decode(document, Pod)`` raises ``DecodeError(path, reason)``; ``encode(value) -> bytes``;
    ``deep_copy(value)``.
``api.quantity``
    ``Quantity("100m")``: ``.value`` (Fraction), ``.milli``, ``int(q)``, ``str(q)``, order, +, -.
``api.defaults``
    ``set_defaults(pod) -> None`` fills in what the API server would.
``api.validation``
    ``validate(pod) -> list[FieldError]``; ``FieldError(path, reason, value, detail)``.
``api.support``
    ``unsupported(pod) -> list[FieldError]``: fields that are valid and that this kubelet does
    not honour yet; ``without_effect(pod) -> list[str]``: hints for the scheduler, told once.

Structs have attributes in snake_case and camelCase in JSON; absent lists and maps are empty,
absent strings "", what is a pointer in Go is None. They are mutable: who changes one that others
hold makes a ``deep_copy`` first.
"""
