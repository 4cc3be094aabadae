"""The sampler ``front``, for any Optuna study with one measured objective and exact costs."""
