"""The chassis: the only place that knows FastStream, aiokafka, engines, tokens and telemetry."""
