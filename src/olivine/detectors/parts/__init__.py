"""What detectors are made of: anchors and their targets, codes of boxes, losses, networks of maps, selection."""
