"""A model folder, read without torch: which of its files count, and the hash of what they say."""
