"""Container Device Interface (CDI, specification 1.0): devices that a node's vendors describe."""
