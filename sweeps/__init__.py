"""Searches for the student to ship: Ray Tune runs trials, Optuna proposes them, MLflow records them."""
