"""One target under atheris: `python -m tests.fuzz.child MODULE TARGET OPTION...`, with the options of libFuzzer.

In a process of its own, since libFuzzer ends the process that it runs in.
"""

from __future__ import annotations

import importlib
import random
import sys

import atheris

PROGRESS = 1 << 12
"""Inputs between two lines that say how many there were."""


def main() -> None:
    """Fuzz, and end the process."""
    module, name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["cni_collector"]):  # what is imported before this is not seen
        target = importlib.import_module(module).TARGETS[name]
    count = 0

    def check(raw: bytes) -> None:
        nonlocal count
        count += 1
        if count % PROGRESS == 0:
            print(f"#{count}", flush=True)
        target.check(raw)

    def mutate(raw: bytes, size: int, seed: int) -> bytes:
        choose = random.Random(seed)
        mutated: bytes = target.mutate(raw, choose, atheris.Mutate) if seed % 2 else atheris.Mutate(raw, size)
        return mutated[:size]

    atheris.Setup([sys.argv[0], *options], check, **({"custom_mutator": mutate} if target.mutate else {}))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
