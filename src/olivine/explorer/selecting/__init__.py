"""What is like what was clicked, selections of it, and the labels that they become."""
