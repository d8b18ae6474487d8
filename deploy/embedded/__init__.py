"""The whole platform on one machine, with a real Kafka and a real PostgreSQL from packages."""
