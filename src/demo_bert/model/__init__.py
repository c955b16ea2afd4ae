"""BERT: the network, its heads, its sizes and its weights, from and to the formats of others."""
