"""batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.batch.cronjob import CronJob
from controlplane.kinds.strategies.batch.job import Job

BATCH: Final[Mapping[str, Strategy]] = {
    "batch/cronjobs": CronJob(),
    "batch/jobs": Job(),
}
