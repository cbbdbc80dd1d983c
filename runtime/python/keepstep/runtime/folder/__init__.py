"""A bundle's folder, found whole and held as it was: its files, its arrays, its tokenizers."""
