"""The compressor study: how fast compressors are, and how near to the top-k is what they send, step after step."""
