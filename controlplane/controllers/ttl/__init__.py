"""Jobs that ended go after ``ttlSecondsAfterFinished``."""
