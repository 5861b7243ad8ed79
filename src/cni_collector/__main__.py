"""`python -m cni_collector`."""

from .cli.main import run

run()
