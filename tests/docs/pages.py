"""The pages of README and docs, and what is in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy" / "README.md"]

_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_SPAN: Final = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A block of code.

    Attributes:
        page: where it is.
        line: that of its first line, from 1.
        text: its lines, without the indentation of the block.
    """

    page: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        """As a test is called that is about it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """The fenced blocks of a language, of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if match["language"] == language:
                line = text.count("\n", 0, match.start()) + 2
                found.append(Block(page, line, textwrap.dedent(match["text"])))
    assert found, f"there is no {language} at all"
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands in backticks on a page."""
    return _SPAN.findall(prose(page))


def indented(page: Path) -> Iterator[str]:
    """The lines of indented blocks, those that end with a backslash joined."""
    for match in _INDENTED.finditer(prose(page)):
        yield from textwrap.dedent(match[0]).replace("\\\n", " ").splitlines()


def words(line: str) -> list[str]:
    """What tells two lines of a table apart beside numbers: its words, each run of digits as one `#`."""
    line = re.sub(r"(kernel|tier|tid|sandbox|container|name)=\S+", r"\1=", line).replace("tid=", "")
    return re.sub(r"[0-9]+(\.[0-9]+)?", "#", line).split()
