"""Tests of hkd.data.sources.inria."""
