"""Addresses for Services of type LoadBalancer, from a pool of this machine's network."""
