"""Training of one detector or one distillation: a plain loop over named losses."""
