"""What the recipes of all models share: training loops, the model card, writing a folder."""
