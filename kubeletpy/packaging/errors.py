"""How building a package fails."""


class PackagingError(Exception):
    """A package cannot be built; the text says what was tried, why it failed and what to do."""
