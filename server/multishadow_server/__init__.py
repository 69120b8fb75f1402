"""multishadow's server: the router, the worker and control."""
