"""A schedule on its way to a plan: lowered, its calls and values listed, its memory laid out."""
