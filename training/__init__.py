"""Trains residual segmentation networks with PyTorch."""
