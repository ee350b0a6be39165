"""The configuration file: models, loading with every error at once, JSON Schema and the commented sample."""
