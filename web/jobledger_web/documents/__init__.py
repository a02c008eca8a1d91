"""Documents as people read them: the words, texts and page of an invoice."""
