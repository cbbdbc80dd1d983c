"""How `models/emoji` was made: data, tokenizer, autoencoder, denoiser, export, evaluation.

The files in processing order: settings, sources, captions, pictures, tokenizer, networks,
head_start, autoencoder, denoiser, export, frechet, evaluate, card. `train.py` one folder up is the
command line; everything in here can also be imported and called from Python.
What it shares with other models' recipes is in `models/recipe_common`, which this puts on the path.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
