"""What the node, its daemons and its pods use; measured when somebody asks."""
