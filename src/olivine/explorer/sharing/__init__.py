"""What is on screen, handed on: pictures, and a page that needs no server."""
