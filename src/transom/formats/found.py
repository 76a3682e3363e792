"""What a format's inspector found in a stream."""

from __future__ import annotations

from typing import NamedTuple

from oslo_utils.imageutils import format_inspector as oslo


class Recognized(NamedTuple):
    """One format that the data has."""

    name: str
    virtual_size_bytes: int
    """0 = the header does not tell."""
    failed_checks: frozenset[str]


def failed_checks(inspector: oslo.FileInspector, unjudged: str = "structure") -> frozenset[str]:
    """Names of the checks that fail; `unjudged` when the inspector could not even begin."""
    try:
        inspector.safety_check()
    except oslo.SafetyCheckFailed as failed:
        return frozenset(failed.failures)
    except oslo.ImageFormatError:
        return frozenset({unjudged})
    return frozenset()
