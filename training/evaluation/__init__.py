"""How accurate masks are; numpy only, no torch."""
