"""Momentum networks and queues in plain Python."""


def average(history, momentum):
    """Closed form of the moving average: history[0] is where it starts, each next entry one update.

    θ_n = m^n θ_0 + Σ_k (1 − m) m^(n − k) s_k.
    """
    steps = len(history) - 1
    total = momentum**steps * history[0]
    for step in range(1, steps + 1):
        total = total + (1 - momentum) * momentum ** (steps - step) * history[step]
    return total


def latest(pushed, size):
    """The rows that a queue of `size` holds after the batches `pushed`, as a list in no particular order."""
    return [row for batch in pushed for row in batch][-size:]
