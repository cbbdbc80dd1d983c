"""How `models/emoji` was made: data, tokenizer, autoencoder, denoiser, export, evaluation.

The files in processing order: settings, sources, captions, pictures, tokenizer, networks,
head_start, autoencoder, denoiser, export, frechet, evaluate, card. `train.py` one folder up is the
command line; everything in here can also be imported and called from Python.
"""
