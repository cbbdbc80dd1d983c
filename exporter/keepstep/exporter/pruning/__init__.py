"""Token pruning with static counts: which tokens are kept is data, how many is not."""

SELECTION = "selection."  # and a block's number: the tensor of a stage that has its marks
