"""What tests execute beside hosts in namespaces, as the command of ``tests/cluster/hosts.sh``.

Three scenarios, each ended by the first assertion that fails:

- ``aws``: the commands that Ray's launcher recorded for ray_cluster.yaml (launcher.py), in the shell that Ray uses, and
  a study.
- ``documented``: the commands of docs/cluster.md on machines of one's own, from `ray up` to `ray down`.
- ``faults``: processes killed during studies, and a table of what that costs (`python -m benchmarks.cluster_faults`).
"""
