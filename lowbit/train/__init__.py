"""Training: a flat deterministic loop that yields events, and listeners that act on them."""
