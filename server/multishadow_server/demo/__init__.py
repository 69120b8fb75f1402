"""The demonstration: two small real models on real data, each in several versions of clearly different quality."""
