"""What `bench` measures and how: drawn examples, the program's own side, its peer, the peak.

drawn        examples with the lengths of the tasks
course       which of them make which batch, for both sides
own          the program's own workers
huggingface  the same work through transformers
peak         the machine's best rate at matrix products
blocks       the two sides in turn, medians and ratios
figures      what is printed and written
"""
