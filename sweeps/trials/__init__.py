"""Trials: the ledger, the samplers, the queue and the worker."""
