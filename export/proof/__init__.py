"""The proof that a file is its network."""
