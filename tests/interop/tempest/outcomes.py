"""Reads a subunit stream on standard input and writes what became of each test as JSON.

Runs in tempest's own environment, where the subunit library is.
"""

from __future__ import annotations

import json
import sys

import subunit
from testtools import StreamToDict

_SHOWN = 4000
_TOLD = ("traceback", "reason", "Traceback")


def main() -> None:
    """Every test that ended, with the end of what it said."""
    found: dict[str, dict[str, str]] = {}

    def note(test: dict[str, object]) -> None:
        details = test["details"]
        assert isinstance(details, dict)
        said = "\n".join(content.as_text() for name, content in details.items() if name in _TOLD)
        status = str(test["status"])
        name = str(test["id"])
        # A class that cannot be set up is one entry; it stands for its tests.
        if status in ("success", "fail", "skip", "xfail", "uxsuccess"):
            found[name] = {"status": status, "said": said[-_SHOWN:]}

    result = StreamToDict(note)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer).run(result)
    result.stopTestRun()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
