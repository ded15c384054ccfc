"""Text through a pre-trained language model: encoders and decoders that make a vector of a text, all in JAX.

`jaxdecay.language.load.load` reads a local folder as Hugging Face and sentence-transformers write it (weights
as safetensors, the tokenizer as ``tokenizer.json``); nothing is downloaded and nothing is unpickled.
`jaxdecay.language.encoder` makes vectors of token ids. Needs ``pip install 'jaxdecay[text]'``.
"""
