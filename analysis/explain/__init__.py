"""Why a study went as it did: importances, effects of settings and stages, curves and compute."""
