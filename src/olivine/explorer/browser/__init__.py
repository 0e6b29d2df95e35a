"""The explorer in a browser: a server, a gate before it, and for each visitor a panel of parts around one desk.

server ──▶ gate (who may come in)
   └────▶ panel (a visitor) ──▶ desk (the view, and what is shown) ◀── scene, frames, colors, images, …
"""
