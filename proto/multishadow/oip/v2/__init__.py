"""The Open Inference Protocol, version 2: messages, and the typed stubs that come of them."""
