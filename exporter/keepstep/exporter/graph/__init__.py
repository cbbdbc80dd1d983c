"""A traced network and what is done to it: pure functions, in the order in which they run.

trace         a torch module becomes a graph whose inputs are arguments and weights alike
plain         operations in the words that engines know
dependencies  which inputs each traced node depends on
hoist         what does not depend on the latents leaves the loop
extract       a subgraph from chosen outputs back to chosen inputs: slicing and hoisting alike
batch         what runs once a call becomes what runs once for all calls
precision     what computes in half precision, and what stays in float32
weight_parts  weights of which a part is taken are cut when they are stored
weight_layout what was done to a weight's layout, by its name, and how it is undone
macs          multiply–accumulate operations of a subgraph
quiet         what PyTorch says of itself while it traces and converts is left out
"""
