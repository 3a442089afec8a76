"""Real servers for tests, benchmarks and examples: a Kafka broker and an S3-compatible server, on loopback."""
