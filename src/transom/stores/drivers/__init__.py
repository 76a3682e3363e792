"""One driver a file, reached only through the table in `transom.stores`."""
