"""LoRAs: a file read, its names understood, its changes added to a copy of the weights."""
