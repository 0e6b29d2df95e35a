"""What gives an image its classes or segments, one file each, and what they share."""
