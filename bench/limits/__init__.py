"""Programs that do the same work as an image registry with the least code we can think of."""
