"""Device plug-ins: their devices, who has which, and what a container needs for them (KEP-3573)."""
