"""What several kinds of tests need: servers, callers, raw sockets."""
