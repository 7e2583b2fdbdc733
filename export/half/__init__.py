"""float16 files."""
