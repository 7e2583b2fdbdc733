"""Data sets and augmentation; numpy and OpenCV only, so measuring needs no torch."""
