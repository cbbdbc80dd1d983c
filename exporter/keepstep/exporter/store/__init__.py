"""Finished work kept under what it was made from, and bundles written whole or not at all."""
