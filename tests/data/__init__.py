"""Tests of hkd.data."""
