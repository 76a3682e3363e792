"""Limits of projects: how much room is left."""
