"""Early stopping: what trials measured at rungs, and the rules that decide from it which of them to stop."""
