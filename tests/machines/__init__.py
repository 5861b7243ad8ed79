"""Emulated machines with Debian's own kernels, for tests on kernels and processors that are not at hand."""
