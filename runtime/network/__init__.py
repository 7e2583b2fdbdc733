"""From a file and a frame to a class mask: session, the check of the file, resize, mask."""
