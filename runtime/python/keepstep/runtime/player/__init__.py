"""A plan bound and ready: runs are checked, launched, looked at, and lent."""
