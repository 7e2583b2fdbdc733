"""Which class of one vocabulary is which of another: one JSON file a pair, and what reads it."""
