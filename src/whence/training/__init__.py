"""The training engine: one pure step, and drivers for one model and for many at once."""
