"""Listeners: each acts on the events of a run and knows nothing of the others."""
