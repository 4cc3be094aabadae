"""MLflow: the connection to the store, and the runs of a study."""
