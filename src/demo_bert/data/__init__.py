"""From files of examples, or from a token store, to flat batches."""
