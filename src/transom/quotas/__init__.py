"""Limits of projects: how much room is left."""

from transom.quotas.limits import Allowance, Limits, Room

__all__ = ["Allowance", "Limits", "Room"]
