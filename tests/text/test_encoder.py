"""Text encoders give what independent NumPy gives; a folder that is none is one error."""

import json

import encoders_float64 as float64
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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
    for key, value in {
        "num_attention_heads": 1,
        "layer_norm_eps": 1e-3,
    }.items():  # the same weights make other features
        float64.write_encoder(tmp_path / "d", float64.BERT | {key: value}, float64.bert_shapes())
        assert encoder.Encoder("d", tmp_path / "d").sha256 != a
    float64.write_encoder(tmp_path / "d", float64.BERT | {"transformers_version": "5"}, float64.bert_shapes())
    assert encoder.Encoder("d", tmp_path / "d").sha256 == a


def test_layers_that_config_json_does_not_have_are_one_error(tmp_path):
    """They would be left out, and the features be those of another encoder."""
    for config, shapes, layers in (
        (float64.BERT, float64.bert_shapes, "num_hidden_layers"),
        (float64.T5, float64.t5_shapes, "num_layers"),
        (float64.CLIP, float64.whole_clip_shapes, "num_hidden_layers"),
    ):
        part = config.get("text_config", config)
        fewer = {layers: part[layers] - 1}
        config = config | ({"text_config": part | fewer} if "text_config" in config else fewer)
        folder = tmp_path / config["model_type"]
        float64.write_encoder(folder, config, shapes())
        with pytest.raises(ConfigError, match=r"the files have .* and config.json has fewer layers"):
            _ = encoder.Encoder("here", folder).network


def test_t5_1_0_is_refused_and_its_words_may_have_the_encoders_name(tmp_path):
    float64.write_encoder(tmp_path, float64.T5, float64.t5_shapes())
    expected = encoder.Encoder("here", tmp_path).encode(CAPTIONS, 8)[0]
    for file in tmp_path.glob("*.safetensors"):
        given = load_file(file)
        save_file({{"shared.weight": "encoder.embed_tokens.weight"}.get(n, n): a for n, a in given.items()}, file)
    assert np.array_equal(encoder.Encoder("here", tmp_path).encode(CAPTIONS, 8)[0], expected)
    config = {key: value for key, value in float64.T5.items() if key != "feed_forward_proj"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match='feed_forward_proj is "relu", and must be gated-gelu here'):
        encoder.Encoder("here", tmp_path)


def test_of_several_sets_of_weights_the_whole_one_is_read_and_two_of_parts_are_one_error(tmp_path):
    float64.write_encoder(tmp_path, float64.BERT, float64.bert_shapes())
    expected = encoder.Encoder("here", tmp_path).encode(CAPTIONS, 8)[0]
    parts = sorted(tmp_path.glob("*.safetensors"))
    whole = {name: array for path in parts for name, array in load_file(path).items()}
    save_file({name: array.astype(np.float16) for name, array in whole.items()}, tmp_path / "model.fp16.safetensors")
    with pytest.raises(ConfigError, match=r"model.* and model.* both have .*: leave the files of one set"):
        encoder.Encoder("here", tmp_path).encode(CAPTIONS, 8)
    save_file(whole, tmp_path / "model.safetensors")
    assert np.array_equal(encoder.Encoder("here", tmp_path).encode(CAPTIONS, 8)[0], expected)


def test_a_folder_that_is_no_encoder_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match="choose minilm, or the folder of a text encoder"):
        encoder.find(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"config.json cannot be read.*tokenizer.json and \*.safetensors"):
        encoder.Encoder("here", tmp_path)
    shapes = float64.bert_shapes()
    del shapes["encoder.layer.1.output.dense.bias"]
    float64.write_encoder(tmp_path, float64.BERT, shapes)
    with pytest.raises(ConfigError, match=r"the files have no encoder.layer.1.output.dense.bias, which config.json"):
        encoder.Encoder("here", tmp_path).encode(["cat"], 4)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="model_type is 'gpt2', and must be one of bert, t5"):
        encoder.Encoder("here", tmp_path)


@pytest.mark.parametrize(
    "config, message",
    [
        ([1], "must be an encoder's, with keys and values"),
        ({"model_type": ["bert"]}, r"model_type is \['bert'\]"),
        ({"hidden_size": None}, "hidden_size is null, and must be an integer of 1 or more"),
        ({"hidden_size": "8"}, 'hidden_size is "8", and must be an integer'),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1, and must be"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3, which does not divide hidden_size 8"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0, and must be a number above 0"),
        ({"hidden_act": "relu"}, 'hidden_act is "relu", and must be gelu here'),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is .*, and must be absolute here"),
    ],
)
def test_a_config_json_that_no_network_here_has_is_one_error(config, message, tmp_path):
    whole = config if isinstance(config, list) else float64.BERT | config
    float64.write_encoder(tmp_path, whole, float64.bert_shapes())
    with pytest.raises(ConfigError, match=message):
        encoder.Encoder("here", tmp_path)


def test_a_size_that_is_missing_is_named_where_clip_takes_that_of_its_smallest_model(tmp_path):
    config = dict(float64.BERT)
    del config["hidden_size"]
    float64.write_encoder(tmp_path, config, float64.bert_shapes())
    with pytest.raises(ConfigError, match="hidden_size is missing, and must be an integer"):
        encoder.Encoder("here", tmp_path)
    float64.write_encoder(tmp_path, {"model_type": "clip", "text_config": {"hidden_size": 64}}, {})
    assert encoder.Encoder("here", tmp_path).config["vocab_size"] == 49408


@pytest.mark.parametrize("spoilt", [np.full((8,), np.nan, np.float32), np.ones(8, np.int64), np.ones(9, np.float32)])
def test_weights_that_are_none_are_named_as_the_file_does(spoilt, tmp_path):
    float64.write_encoder(tmp_path, float64.BERT, float64.bert_shapes())
    name, path = "encoder.layer.1.output.dense.bias", tmp_path / "model-1.safetensors"
    tensors = load_file(path)
    assert name in tensors
    save_file(tensors | {name: spoilt}, path)
    with pytest.raises(ConfigError, match=f"{name} has "):
        encoder.Encoder("here", tmp_path).encode(["cat"], 4)


def test_half_of_a_character_is_one_error(tmp_path):
    """As of bytes that are not UTF-8 in a shell, or of an emoji that was cut in two."""
    float64.write_encoder(tmp_path, float64.BERT, float64.bert_shapes())
    for text in ("caf\udce9", "x \ud83d y"):
        with pytest.raises(ConfigError, match="has half of a character"):
            encoder.Encoder("here", tmp_path).tokenize(["cat", text], 4)


def test_more_tokens_or_words_than_the_network_knows_are_one_error(tmp_path):
    float64.write_encoder(tmp_path, float64.BERT, float64.bert_shapes())
    most = float64.BERT["max_position_embeddings"]
    with pytest.raises(ConfigError, match=f"data.tokens is {most + 1}, and the encoder here takes {most} at most"):
        encoder.Encoder("here", tmp_path).tokenize(["cat"], most + 1)
    float64.write_encoder(tmp_path, float64.BERT | {"vocab_size": 3}, float64.bert_shapes())
    with pytest.raises(ConfigError, match=r"tokenizer.json has \d+ words, and the network in config.json 3"):
        encoder.Encoder("here", tmp_path).tokenize(["cat"], 4)


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
