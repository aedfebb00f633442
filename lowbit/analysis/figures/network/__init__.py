"""Figures of the network study."""
