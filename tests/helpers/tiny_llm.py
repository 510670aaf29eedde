"""Language models small enough to be made in a test: a folder, and a GGUF file, of a random Qwen2."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from addlib.llm.load import CHARACTERS, VOCABULARY, random_model, random_tokenizer


def other_tokenizer(split: str = "[^\\n]"):
    """One that begins texts with a token of its own, and keeps together what ``split`` matches."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = {text: index for index, text in enumerate([*CHARACTERS, *map(str, range(10, 1000))])}
    made = Tokenizer(WordLevel(words, unk_token="x"))
    made.pre_tokenizer = Split(Regex(f"{split}|\n"), "isolated")
    made.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", words["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="x", bos_token="<s>", eos_token="</s>"
    )


def save_folder(path: Path, seed: int = 0) -> Path:
    """A complete Hugging Face folder."""
    random_model(seed).save_pretrained(path)
    random_tokenizer().save_pretrained(path)
    return path


GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers.": "blk.",
}


def save_gguf(path: Path, seed: int = 0) -> Path:
    """The model of :func:`save_folder` as a GGUF file, its vocabulary included."""
    import gguf

    model = random_model(seed)
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3 if text.startswith("<") else 1 for text in CHARACTERS])
    writer.add_token_merges(["Ġ x"])
    writer.add_bos_token_id(CHARACTERS.index("<s>"))
    writer.add_eos_token_id(CHARACTERS.index("</s>"))
    for name, tensor in model.state_dict().items():
        new = name
        for old, short in GGUF_NAMES.items():
            new = new.replace(old, short)
        writer.add_tensor(new, tensor.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
