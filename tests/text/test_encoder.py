"""Text encoders give what independent NumPy gives; a folder that is none is one error."""

import json

import encoders_float64 as float64
import numpy as np
import pytest

from ganfleet.errors import ConfigError
from ganfleet.text import encoder

pytest.importorskip("tokenizers")
CAPTIONS = ["a red car", "blue heart on white", "cat", "a a a a a a a a a a a a"]
KINDS = {
    "bert": (float64.BERT, float64.bert_shapes, float64.bert),
    "t5": (float64.T5, float64.t5_shapes, float64.t5),
    "clip": (float64.CLIP, float64.clip_shapes, float64.clip),
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_numpy(kind, tmp_path):
    config, shapes, forward = KINDS[kind]
    tensors = float64.write_encoder(tmp_path, config, shapes())
    made = encoder.Encoder("here", tmp_path)
    features, mask = made.encode(CAPTIONS, 14)
    assert features.shape == (4, 14, made.features) and made.features == 8
    for caption, row, seen in zip(CAPTIONS, features, mask, strict=True):
        numbers = [2, *(float64.WORDS.index(word) for word in caption.split()), 3]
        expected = forward(tensors, numbers)
        assert list(seen) == [1] * len(numbers) + [0] * (14 - len(numbers))
        np.testing.assert_allclose(row[: len(numbers)], expected, rtol=2e-4, atol=2e-4)
        assert not row[len(numbers) :].any()


def test_a_captions_bits_do_not_depend_on_the_others(tmp_path):
    float64.write_encoder(tmp_path, float64.BERT, float64.bert_shapes())
    made = encoder.Encoder("here", tmp_path)
    together = made.encode(CAPTIONS * 6, 8)[0]  # more than a run of the network takes
    assert np.array_equal(together[22], made.encode([CAPTIONS[2]], 8)[0][0])


def test_long_captions_are_cut_before_their_last_token_and_counted(tmp_path):
    float64.write_encoder(tmp_path, float64.BERT, float64.bert_shapes())
    numbers, mask, cut = encoder.Encoder("here", tmp_path).tokenize(CAPTIONS, 6)
    assert cut == 1
    assert list(numbers[3]) == [2, 4, 4, 4, 4, 3] and mask[3].all()
    assert list(numbers[2]) == [2, 7, 3, 0, 0, 0]


def test_the_hash_is_that_of_weights_and_tokenizer(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        float64.write_encoder(tmp_path / name, float64.BERT, float64.bert_shapes(), seed)
    a, b, c = (encoder.Encoder(name, tmp_path / name).sha256 for name in "abc")
    assert a == b != c
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(float64.TOKENIZER | {"normalizer": None}))
    assert encoder.Encoder("b", tmp_path / "b").sha256 != a


def test_a_folder_that_is_no_encoder_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match="choose minilm, or the folder of a text encoder"):
        encoder.find(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"config.json cannot be read.*tokenizer.json and \*.safetensors"):
        encoder.Encoder("here", tmp_path)
    shapes = float64.bert_shapes()
    del shapes["encoder.layer.1.output.dense.bias"]
    float64.write_encoder(tmp_path, float64.BERT, shapes)
    with pytest.raises(ConfigError, match=r"no tensor for layers.1.down.bias"):
        encoder.Encoder("here", tmp_path).encode(["cat"], 4)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="model_type is 'gpt2', and must be one of bert, t5"):
        encoder.Encoder("here", tmp_path)


def test_minilm_is_numpys_and_knows_what_is_alike():
    pytest.importorskip(encoder.PACKAGE)
    made = encoder.find("minilm")
    from ganfleet.store import weights

    tensors = {name: array for path in made.files for name, array in weights.read(path).items()}
    captions = ["a red car", "an automobile that is red", "grinning face with smiling eyes"]
    features, mask = made.encode(captions, 12)
    for caption, row, seen in zip(captions, features, mask, strict=True):
        numbers = made.tokenize([caption], 12).numbers[0][: int(seen.sum())]
        expected = float64.bert(tensors, numbers, made.config)
        np.testing.assert_allclose(row[: len(numbers)], expected, atol=2e-5)
    pooled = features.sum(1) / mask.sum(1, keepdims=True)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    alike = pooled @ pooled.T
    assert alike[0, 1] > 0.6 > 0.3 > alike[0, 2]
    assert made.tokenize(["a red car"], 12).numbers[0][:5].tolist() == [
        101,
        1037,
        2417,
        2482,
        102,
    ]  # bert-base-uncased's
