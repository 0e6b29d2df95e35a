"""Where networks go wrong over a whole dataset.

`survey` goes through the frames; what is made of each says which question is asked.
"""
