"""The ledger: claims as `book/claims.yml` declares them, verdicts, and the records of long runs."""
