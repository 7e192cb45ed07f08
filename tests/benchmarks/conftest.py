"""The benchmarks are run by hand (`rewards.py`); pytest collects nothing here."""

collect_ignore_glob = ["*"]
