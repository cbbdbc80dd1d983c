"""The compiler's passes, one a file, all pure functions, in the order in which they run.

fold_skips   skipped calls leave the sampler's matrix
colour       which inputs each traced node depends on
cut          the node at which full and shallow calls part
hoist        what depends on the prompt or the timestep alone leaves the loop
extract      a subgraph from chosen outputs back to chosen inputs: slicing and hoisting alike
macs         multiply–accumulate operations of a subgraph
"""
