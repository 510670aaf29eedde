"""Each parameter and hook point of the first block and around is listed once, others are not."""

from addlib.llm.inventory import inventory
from addlib.llm.load import RANDOM, load_llm


def test_names_and_shapes_of_the_first_block_and_around():
    llm = load_llm(RANDOM, device="cpu")
    rows = inventory(llm, "12*3=")
    names = {
        (kind, shape): names.split(", ")
        for kind, shape, names in rows.itertuples(index=False, name=None)
    }
    assert "blocks.0.attn.hook_pattern" in names["hook point", "(1, 4, 5, 5)"]
    assert "blocks.0.hook_resid_pre" in names["hook point", "(1, 5, 32)"]
    embedding = names["parameter", f"({llm.bridge.cfg.d_vocab}, 32)"]
    assert any("embed_tokens" in name for name in embedding)
    listed = [name for some in names.values() for name in some]
    assert not [name for name in listed if "blocks.1." in name or "layers.1." in name]
