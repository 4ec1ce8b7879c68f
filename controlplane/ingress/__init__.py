"""Ingress: HTTP from outside to Services, by an nginx that this package configures and runs."""
