"""The rules of the local identity: logging in, what a token is worth, and who may do what to whom."""
