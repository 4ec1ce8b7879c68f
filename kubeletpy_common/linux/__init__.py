"""The kernel's calls that Python lacks, the only place of this project that uses ctypes.

Every failure is an :class:`OSError` whose ``errno`` is the kernel's and whose text names the call
and its operands. Nothing here keeps state, starts threads or processes, so all of it may be used
after ``fork`` in a single-threaded process.
"""
