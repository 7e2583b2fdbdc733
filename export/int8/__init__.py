"""int8 files that keep an accuracy budget."""
