"""Policy: who may do what."""

from transom.policy.check import Policy

__all__ = ["Policy"]
