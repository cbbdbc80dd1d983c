"""How `models/emoji-dit` was made: pictures, tokenizer, denoiser, export, judge, evaluation.

The files in processing order: settings, attributes, canvas, shapes, details, drawing, pictures,
tokenizer, networks, flow, denoiser, export, judge, evaluate, card. `train.py` one folder up is the
command line; everything in here can also be imported and called from Python.
What it shares with other models' recipes is in `models/recipe_common`, which this puts on the path.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
