"""Metadata definitions: what properties things in a cloud may carry, and what they mean."""

from __future__ import annotations

from enum import StrEnum


class NamespaceVisibility(StrEnum):
    """Who may see a namespace besides its owner."""

    PUBLIC = "public"
    PRIVATE = "private"
