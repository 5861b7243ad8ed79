"""Where events go, for real: NATS, Prometheus, OTLP, files."""
