"""What controllers and the scheduler take, nodes without machines."""
