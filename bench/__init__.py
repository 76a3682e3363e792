"""Measures Transom beside a real Glance and beside programs that do the least possible work."""
