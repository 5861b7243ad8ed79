"""One target from beginning to end, in a child process."""

from __future__ import annotations

import collections
import importlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

CHECKOUT: Final = Path(__file__).parents[2]
FAILURES: Final = CHECKOUT / "build" / "fuzz"
"""Where inputs are kept that something fails with."""
PATIENCE: Final = 10
"""Seconds that one input may take."""
_HUNG: Final = 70
"""libFuzzer's exit status where one took longer."""
_MEMORY: Final = 1024
"""Megabytes that the child may have."""


class Outcome(NamedTuple):
    """How a target took it.

    Attributes:
        target: its name.
        inputs: how many it was fed.
        seconds: how long that took.
        failure: what went wrong; empty if nothing did.
        input: the file with the input that it went wrong with.
        log: the end of what the child wrote.
    """

    target: str
    inputs: int
    seconds: float
    failure: str = ""
    input: Path | None = None
    log: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        """A row of the table."""
        where = f"; input in {os.path.relpath(self.input)}" if self.input else ""
        result = f"FAILED: {self.failure:.100}{where}" if self.failure else "in order"
        return self.target, f"{self.inputs:,}", f"{self.seconds:.0f}", result


def run(
    name: str,
    runs: int,
    seed: int,
    progress: Callable[[int], object] = lambda _count: None,
    module: str = "tests.fuzz.targets",
    patience: int = PATIENCE,
) -> Outcome:
    """Feeds a target.

    Args:
        name: the target's.
        runs: how many inputs.
        seed: of the random numbers.
        progress: told how many inputs there were, now and then.
        module: where its `TARGETS` are.
        patience: seconds that one input may take.
    """
    target = importlib.import_module(module).TARGETS[name]
    FAILURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        words, corpus = Path(folder, "words"), Path(folder, "corpus")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words) or "# none\n")
        corpus.mkdir()
        for number, content in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(content)
        options = {
            "runs": runs,
            "seed": seed,
            "timeout": patience,
            "max_len": target.size,
            "rss_limit_mb": _MEMORY,
            "print_final_stats": 1,
            "artifact_prefix": FAILURES / f"{name}-",
        } | ({"dict": words} if target.words else {})
        command = [sys.executable, "-m", "tests.fuzz.child", module, name]
        command += [f"-{option}={value}" for option, value in options.items()]
        started = time.monotonic()
        status, log = _follow([*command, str(corpus)], progress)
    took = time.monotonic() - started
    inputs = re.search(r"^stat::number_of_executed_units: (\d+)$", log, re.M)
    count = int(inputs[1]) if inputs else 0
    if status == 0 and count >= runs:
        return Outcome(name, count, took)
    kept = re.search(r"Test unit written to (.+)$", log, re.M)
    raised = re.search(r"=== Uncaught Python exception: ===\n(.*)", log)
    failure = raised[1] if raised else f"exit status {status}: {log.strip().rpartition(chr(10))[2]}"
    if status == _HUNG:
        failure = f"took longer than {patience} s"
    return Outcome(name, count, took, failure, Path(kept[1]) if kept else None, log)


def _follow(command: list[str], progress: Callable[[int], object]) -> tuple[int, str]:
    """The exit status of a child, and the end of what it wrote."""
    log: collections.deque[str] = collections.deque(maxlen=100)
    environment = os.environ | {"PYTHONHASHSEED": "0"}  # for the same inputs with the same seed
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as child:  # fmt: skip
        assert child.stdout
        try:
            for line in child.stdout:
                if count := re.match(r"#(\d+)\b", line):
                    progress(int(count[1]))
                else:
                    log.append(line)
        except BaseException:
            child.kill()
            raise
    return child.returncode, "".join(log)


def _escaped(word: bytes) -> str:
    """A word as a dictionary of libFuzzer has it."""
    return "".join(f"\\x{byte:02x}" for byte in word)
