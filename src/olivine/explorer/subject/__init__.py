"""What is looked at: datasets and runs as they are opened, frames, and what networks say of them."""
