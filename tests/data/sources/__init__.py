"""Tests of hkd.data.sources."""
