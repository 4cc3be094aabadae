"""Tests of hkd.training."""
