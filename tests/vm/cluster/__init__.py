"""Several virtual machines on one switch: a cluster as its users have it."""
