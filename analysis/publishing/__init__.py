"""What a report writes to MLflow where it is asked to: its files, models, and versions in the registry."""
