"""The training itself: loop, losses, optimisation, checkpoints, processes."""
