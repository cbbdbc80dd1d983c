"""The plan as data, its text, and the numbered rules that a plan keeps."""
