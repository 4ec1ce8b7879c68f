"""The root tests in a privileged container: image, start, and what runs inside."""
