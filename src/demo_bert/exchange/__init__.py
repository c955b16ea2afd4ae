"""Gradients of a step, summed over micro-batches and workers.

`gradients` is what training uses; `arena` is where gradients lie, `sums` how they are summed over
workers, `tree` the one order of sums in which the number of workers makes no difference, and
`forecast` how long it takes.
"""
