"""Tests in a real browser: Chromium, driven over the WebDriver protocol."""
