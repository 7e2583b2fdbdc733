"""Where a network spends its time, and what the machine could do."""
