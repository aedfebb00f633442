"""Datasets: one file each, from its source to a prepared folder of arrays with a manifest."""
