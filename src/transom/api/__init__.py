"""The HTTP face: requests to verbs, results and errors to answers."""
