"""What `import cni_collector` gives, and what it leaves for later."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cni_collector


def test_every_name_that_it_promises_is_there() -> None:
    names: dict[str, object] = {}
    exec("from cni_collector import *", names)
    assert set(cni_collector.__all__) <= set(names)
    assert "replay" in names


def test_names_that_it_does_not_have_are_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match=r"^module 'cni_collector' has no attribute 'reply'$"):
        getattr(cni_collector, "reply")  # noqa: B009 - type checkers know that it is not there


def test_what_few_need_is_not_loaded() -> None:
    """These take as long as all the rest."""
    loaded = (
        "import sys, cni_collector\n"
        "for name in 'asyncio', 'importlib.metadata', 'click', 'json':\n"
        "    assert name not in sys.modules, name\n"
        "assert callable(cni_collector.replay)\n"
    )
    subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}\n{loaded}"], check=True)
