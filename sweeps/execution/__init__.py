"""Ray: the cluster, the teacher task, GPU shares and the Tune run."""
