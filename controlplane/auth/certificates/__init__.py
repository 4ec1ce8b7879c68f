"""Certificate signing requests: who may approve them, which approve themselves, signing."""
