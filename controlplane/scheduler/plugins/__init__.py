"""The plugins of the scheduler, named as those of the Go peer."""
