"""Why a pod cannot have the CPUs, memory or devices that it asks for."""

from __future__ import annotations


class AdmissionError(Exception):
    """A pod that is not admitted to the node; its status becomes Failed.

    Attributes:
        reason: one word for the status, as of the Go kubelet (``UnexpectedAdmissionError``,
            ``TopologyAffinityError``, ``SMTAlignmentError``).
        message: for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class AllocationError(Exception):
    """Something is missing that a pod was to get; `as_admission_error` words it as Go does."""

    def as_admission_error(self) -> AdmissionError:
        """Return it as the reason why a pod is not admitted."""
        return AdmissionError(
            "UnexpectedAdmissionError", f"Allocate failed due to {self}, which is unexpected"
        )


class AlignmentError(AllocationError):
    """CPUs are only given by whole cores, and that many whole cores there are not."""

    def as_admission_error(self) -> AdmissionError:
        """Return it as the reason why a pod is not admitted."""
        return AdmissionError("SMTAlignmentError", str(self))


class ConfigurationFault(Exception):
    """A policy cannot work on this machine with these settings; the message says what to change."""
