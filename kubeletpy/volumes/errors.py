"""The failure of all volume work."""

from __future__ import annotations


class VolumeError(Exception):
    """A volume or file of a pod could not be made or removed: event reason FailedMount.

    Attributes:
        volume: its name in the pod, "" if no volume is concerned.
    """

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(f"volume {volume!r}: {message}" if volume else message)
        self.volume = volume


class UnreachableError(VolumeError):
    """The API server could not be asked: nothing is wrong with the volume itself."""


class VolumesError(Exception):
    """Some volumes of a pod cannot be had for now.

    Attributes:
        errors: one for each, worded as events.
    """

    def __init__(self, errors: list[VolumeError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors
