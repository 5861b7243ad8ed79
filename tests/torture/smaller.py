"""`python -m tests.torture.smaller MAP=ENTRIES... -- ARGUMENTS`: the command, with smaller maps in the kernel.

65,536 namespaces and 8,192 calls at once are more than most machines can have. What happens then, happens here sooner.
"""

from __future__ import annotations

import sys

from cni_collector.cli import main as cli
from cni_collector.kernel import objects


def main() -> None:
    """Sets the sizes, and becomes the command."""
    at = sys.argv.index("watch")
    sizes = dict(word.split("=") for word in sys.argv[1:at])
    load = objects.Object.load

    def smaller(self: objects.Object) -> None:
        for name, entries in sizes.items():
            self.map(name).max_entries = int(entries)
        load(self)

    objects.Object.load = smaller  # type: ignore[method-assign]
    sys.argv[:] = ["cni-collector", *sys.argv[at:]]
    cli.run()


if __name__ == "__main__":
    main()
