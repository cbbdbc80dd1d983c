"""What a bundle is given, made of prompts and pictures, and what can be told of it."""
