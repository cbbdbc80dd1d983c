"""Whether a bundle does what the model does: the eager run, golden values, verdicts."""
