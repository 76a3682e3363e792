"""Transom under kills, floods and full disks."""
