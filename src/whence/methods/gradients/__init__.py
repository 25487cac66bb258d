"""What gradient methods share: networks at their checkpoints, per-example gradients, projections, stores."""
