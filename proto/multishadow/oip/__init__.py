"""The Open Inference Protocol, under names of our own."""
