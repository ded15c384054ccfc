"""What sentence-transformers makes of texts, in an environment of its own: the peer of parity_text.py and
benchmark_text.py.

    python -m venv .venv-text && .venv-text/bin/pip install torch sentence-transformers
    .venv-text/bin/python scripts/peers/sentence_vectors.py encode --model FOLDER --texts T.json --out V.npy

``encode`` writes the vectors (n, d) of the texts; ``make`` a folder of a small random model, by the library's
own save_pretrained, so that names and fields are those that real folders have; ``serve`` reads lines of stdin
and encodes all texts once for each, with the seconds on stdout.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "intermediate_size": 80}
DECODER = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
GEMMA = {**DECODER, "query_pre_attn_scalar": 24, "sliding_window": 8}
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertConfig", {**SMALL, "num_attention_heads": 4}, "cls"),
    "roberta": ("RobertaConfig", {**SMALL, "num_attention_heads": 4, "type_vocab_size": 1}, "mean"),
    "xlm-roberta": ("XLMRobertaConfig", {**SMALL, "num_attention_heads": 4, "type_vocab_size": 1}, "mean"),
    "qwen3": ("Qwen3Config", DECODER, "lasttoken"),
    "gemma2": ("Gemma2Config", GEMMA, "lasttoken"),
    "gemma3": (
        "Gemma3TextConfig",
        {**GEMMA, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
        "mean",
    ),
    "embeddinggemma": (
        "Gemma3TextConfig",
        {
            **GEMMA,
            "use_bidirectional_attention": True,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "mean",
    ),
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("task", choices=("encode", "make", "serve"))
    add("--model", type=Path, help="folder of the model (encode, serve)")
    add("--kind", choices=KINDS, help="architecture of the random model (make)")
    add("--texts", type=Path, required=True, help="JSON list of texts")
    add("--out", type=Path, help="what to write")
    add("--threads", type=int, default=2)
    add("--batch", type=int, default=32, help="texts in a batch; the library's own default")
    return parser.parse_args()


def make(kind: str, texts: list[str], out: Path) -> None:
    """A random model with a tokenizer of the texts' own words, and dense layers for one kind."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    name, options, pooling = KINDS[kind]
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    words = sorted({word for text in texts for word in text.split()})
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *words])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", model_max_length=128
    )
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, name)(
        vocab_size=len(special) + len(words), max_position_embeddings=160, **ids, **options
    )
    plain = out.with_name(f"{out.name}-plain")
    model = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():  # the library's own start is so small that most parts would not matter
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    width = options["hidden_size"]
    modules = [Transformer(str(plain)), Pooling(width, pooling_mode=pooling)]
    if kind == "embeddinggemma":
        modules += [
            Dense(width, 96, bias=False, activation_function=torch.nn.Identity()),
            Dense(96, 32, bias=False, activation_function=torch.nn.Identity()),
        ]
    SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save_pretrained(str(out))


def main() -> None:
    options = parse_arguments()
    texts = json.loads(options.texts.read_text(encoding="utf-8"))
    if options.task == "make":
        make(options.kind, texts, options.out)
        return
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(options.threads)
    model = SentenceTransformer(str(options.model), device="cpu")
    if options.task == "encode":
        np.save(options.out, model.encode(texts, batch_size=options.batch, show_progress_bar=False))
        return
    model.encode(texts[: options.batch], batch_size=options.batch, show_progress_bar=False)
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        model.encode(texts, batch_size=options.batch, show_progress_bar=False)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
