"""Models: the only importers of torch, transformers, sentence_transformers and huggingface_hub.

Nothing here knows Ray, Chroma or the settings: a model takes its folder and plain parameters.
Finding a model, its sizes and its tokenizer import neither torch nor transformers.
"""
