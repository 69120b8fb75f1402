"""Protocol buffers of multishadow: requests, answers, and control."""
