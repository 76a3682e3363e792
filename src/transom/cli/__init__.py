"""The command line: `transom <command>`."""
