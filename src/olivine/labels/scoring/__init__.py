"""How well masks agree with labelled points."""
