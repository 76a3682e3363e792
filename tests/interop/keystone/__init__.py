"""Transom and a real Keystone."""
