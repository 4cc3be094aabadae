"""Cost of a study's driver per trial."""
