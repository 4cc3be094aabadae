"""Reports on finished studies, read from MLflow: front, knee, hypervolume. Needs neither torch nor ray."""
