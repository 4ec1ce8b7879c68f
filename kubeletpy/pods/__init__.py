"""The life of a pod: what is observed, what to do about it, and doing it."""
