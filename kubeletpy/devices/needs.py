"""What a container needs for its devices, put into its configuration (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from kubeletpy_proto import cri_pb2, deviceplugin_pb2


def add_needs(
    config: cri_pb2.ContainerConfig, answers: Iterable[deviceplugin_pb2.ContainerAllocateResponse]
) -> None:
    """Add variables, mounts, devices, annotations and CDI devices.

    As in Go: of two answers the first wins, and the pod's own variables, mounts and annotations
    win over both.
    """
    variables = {one.key for one in config.envs}
    targets = {one.container_path for one in config.mounts}
    devices = {one.container_path for one in config.devices}
    named = {one.name for one in config.CDI_devices}
    envs, mounts = [], []
    for answer in answers:
        for key, value in sorted(answer.envs.items()):
            if key not in variables:
                variables.add(key)
                envs.append(cri_pb2.KeyValue(key=key, value=value.encode()))
        for one in answer.mounts:
            if one.container_path not in targets:
                targets.add(one.container_path)
                mounts.append(
                    cri_pb2.Mount(
                        container_path=one.container_path,
                        host_path=one.host_path,
                        readonly=one.read_only,
                    )
                )
        for device in answer.devices:
            if device.container_path not in devices:
                devices.add(device.container_path)
                config.devices.add(
                    container_path=device.container_path,
                    host_path=device.host_path,
                    permissions=device.permissions,
                )
        for key, value in answer.annotations.items():
            if key not in config.annotations:
                config.annotations[key] = value
        for found in answer.cdi_devices:
            if found.name not in named:
                named.add(found.name)
                config.CDI_devices.add(name=found.name)
    for index, variable in enumerate(envs):
        config.envs.insert(index, variable)
    for index, mount in enumerate(mounts):
        config.mounts.insert(index, mount)
