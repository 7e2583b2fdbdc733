"""What was measured, how sure it is, and what changed."""
