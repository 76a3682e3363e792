"""Transom: an image registry for clouds."""

__version__ = "0.1.0"
