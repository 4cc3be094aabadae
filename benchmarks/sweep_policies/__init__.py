"""Which sampler and scheduler reach a front with the least compute: studies simulated on recorded trainings."""
