"""The Image API over HTTP against the real program, as its contract tells it."""
