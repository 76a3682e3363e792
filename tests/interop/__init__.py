"""Transom driven by clients, images and servers that were not written for it."""
