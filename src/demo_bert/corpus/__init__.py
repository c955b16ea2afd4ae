"""Raw text to documents to a token store."""
