"""The cluster's certificate authority, what it signs, and the key of service-account tokens."""
