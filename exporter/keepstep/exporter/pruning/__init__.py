"""Token pruning with static counts: which tokens are kept is data, how many is not."""
