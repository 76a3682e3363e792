"""Limits of projects: how much room is left."""

from transom.quotas.limits import Limits, Room

__all__ = ["Limits", "Room"]
