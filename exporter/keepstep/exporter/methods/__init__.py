"""What a schedule may change in a call of the network: cached features, and fewer tokens."""

SELECTION = "selection."  # and a block's number: the tensor of a stage that has its marks
