"""One identity backend a file, reached only through the table in `transom.auth`."""
