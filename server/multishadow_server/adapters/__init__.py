"""The ports made real: gRPC, JetStream, PostgreSQL, OpenFeature, embedded engines."""
