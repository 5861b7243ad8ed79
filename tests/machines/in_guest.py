"""What a machine of the suite runs: whether this kernel offers a tier, and if so tests/kernel in it.

In place of a tier, `lockdown` tests what is said on a machine that is locked down.
"""

from __future__ import annotations

import json
import os
import platform
import sys

from cni_collector import Collector, CollectorError, CollectorStart

LOCKDOWN = "lockdown"
TIER_FOR_ALL = "tracepoint"
"""In which all tests are run, as every machine offers it; in others those that are not marked `any_tier`."""


def _offer(tier: str) -> dict[str, object]:
    """What the collector says of itself in this tier."""
    offer: dict[str, object] = {"kernel": platform.release(), "refusal": None, "missing": []}
    try:
        with Collector(tier=tier) as collector:
            pass
    except CollectorError as error:
        return offer | {"refusal": str(error)}
    start = next(iter(collector.events()))
    assert isinstance(start, CollectorStart)
    return offer | {"missing": start.missing}


def main(tier: str) -> None:
    """Writes the offer as a line of JSON, then becomes pytest."""
    tests = "tests/machines/test_lockdown.py" if tier == LOCKDOWN else "tests/kernel"
    offer = {"kernel": platform.release(), "refusal": None, "missing": []} if tier == LOCKDOWN else _offer(tier)
    print(json.dumps(offer), flush=True)
    if not offer["refusal"]:
        os.environ |= {"CNI_TEST_TIER": tier, "CNI_TEST_EMULATED": "1"}
        pytest = ["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "600", "--durations", "10", "-q", tests]
        chosen = [] if tier in (TIER_FOR_ALL, LOCKDOWN) else ["-m", "not any_tier"]
        os.execv(sys.executable, [sys.executable, *pytest, *chosen])


if __name__ == "__main__":
    main(sys.argv[1])
