"""Data sets in the formats of others: label tools, training tools and published drives."""
