"""Packages of kubeletpy: a wheel, a Debian package, and how the latter becomes a release.

``manifest`` and ``release`` run on the machine that installs, on its bare Python, out of our wheel:
they import the standard library only.
"""
