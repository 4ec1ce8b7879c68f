"""OpenAPI documents of what is served: version 3, one for each group version, and version 2.

They are made when they are first asked for, from the tables of the kinds, and kept compressed.
"""
