"""Figures of the exchange study: several processes train one model and send a part of their gradients."""
