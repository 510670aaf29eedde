"""The faulty metric does what it is blamed for, number by number."""

import torch

from addlib.llm.faulty_metric import OneRowMetric, slips
from addlib.llm.load import CHARACTERS, random_tokenizer

VOCAB = len(CHARACTERS)


def test_slips_are_those_of_the_notes():
    assert slips(408) == [
        *("409", "407", "418", "398", "816", "204"),
        *("804", "048", "084", "840", "519", "397"),
    ]
    assert slips(11) == ["12", "10", "21", "1", "22", "5", "22", "00"]  # what is 11 again is none


def test_the_metric_is_one_row_of_means():
    metric = OneRowMetric.of(random_tokenizer(), [408, 12])
    logits = torch.randn(2, VOCAB, generator=torch.Generator().manual_seed(0))
    end = CHARACTERS.index("</s>")
    for row, answer in enumerate((408, 12)):
        texts = [str(answer), *slips(answer)]
        ids = [[int(digit) for digit in text] for text in texts]
        for padded in (True, False):
            padding = [[end] * (3 - len(one)) * padded for one in ids]
            means = [logits[row, one + more].mean() for one, more in zip(ids, padding, strict=True)]
            expected = means[0] - torch.stack(means[1:]).mean()
            assert torch.isclose(metric(logits, padded)[row], expected, atol=1e-6)


def test_anagrams_and_padding_are_counted():
    metric = OneRowMetric.of(random_tokenizer(), [408])
    assert metric.anagram_share == 4 / 12  # 804, 048, 084, 840
    assert metric.padding_share == 0
    both = OneRowMetric.of(random_tokenizer(), [408, 12])
    texts = [text for answer in (408, 12) for text in (str(answer), *slips(answer))]
    missing = sum(3 - len(text) for text in texts)
    assert both.padding_share == missing / (3 * len(texts))
