"""The execution graph, and the steps that it runs: `python -m workflow.NAME`, see README.md."""
