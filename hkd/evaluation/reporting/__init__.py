"""Evaluation results as text and plots."""
