"""`kubeletpy install` below a directory, as for an image of a machine."""
