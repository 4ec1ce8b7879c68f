"""The network between nodes, measured."""
