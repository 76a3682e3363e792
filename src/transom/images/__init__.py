"""What may happen to images: the rules, one verb a file."""
