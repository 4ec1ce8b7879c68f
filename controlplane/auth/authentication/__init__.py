"""Who asks: client certificates, tokens of several kinds, impersonation."""
