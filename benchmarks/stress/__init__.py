"""What is left after a fault: kills, full and stalled disks, clocks that jump."""
