"""Pictures of a training and of what a network gets wrong."""
