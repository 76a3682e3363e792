"""The nouns: what things are. No I/O, no HTTP, no SQL."""
