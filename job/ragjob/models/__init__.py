"""Models: where their weights are, how large they are, their tokenizers, and the embedder.

Finding a model, its sizes and its tokenizer imports neither torch nor transformers.
"""
