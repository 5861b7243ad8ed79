"""`python -m cni_collector`."""

from .cli import run

run()
