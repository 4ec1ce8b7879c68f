"""``kubeletpy doctor``: what this machine must have, what it lacks, and how to mend that.

Each module of a group has facts (plain data), ``gather`` (reads them, changes nothing) and
``judge`` (facts to findings, pure).
"""

from __future__ import annotations

from kubeletpy.doctor.examination import examine
from kubeletpy.doctor.finding import Finding, Verdict, errors, warnings

__all__ = ["Finding", "Verdict", "errors", "examine", "warnings"]
