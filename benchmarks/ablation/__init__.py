"""What a part of a recipe gives."""
