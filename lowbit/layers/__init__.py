"""Low-bit layers, attention, and the conversion that puts low-bit layers into a model."""
