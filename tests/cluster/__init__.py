"""Tests of the cluster files: Ray's schema, Ray's launcher against a mock of EC2, KubeRay's schema, hosts."""
