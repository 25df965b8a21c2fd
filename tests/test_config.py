"""The command line and the YAML of a program: who wins, what is refused, and what the user is told."""

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from egrecho_inner.config import parse, run, to_yaml
from egrecho_inner.errors import ConfigError


@dataclass(frozen=True)
class Noise:
    """Noise."""

    probability: float = 0.5
    """Share."""


@dataclass(frozen=True)
class Augment:
    """Augmentation."""

    noise: Noise | None = None
    """Noise or none."""
    volume: float = 1.0
    """Loudness."""


@dataclass(frozen=True)
class Train:
    """Training."""

    learning_rate: float = 1e-3
    """Rate."""
    epochs: int = 3
    """Times."""
    schedule: Literal["constant", "linear"] = "constant"
    """Shape."""
    freeze: list[str] | None = None
    """Parts."""


def program(
    data_dir: str,
    outdir: str,
    train: Train = Train(),
    augment: Augment | None = None,
    max_skip_ratio: float = 0.0,
    json: bool = False,
) -> None:
    """Train on a folder.

    Args:
        data_dir: Where from.
        outdir: Where to.
        train: How.
        augment: What is done to audio.
        max_skip_ratio: Share.
        json: Whether to print JSON.
    """
    if data_dir == "raise":
        raise RuntimeError(f"ouch in {outdir}\nsecond line")


program.positional = ["data_dir", "outdir"]
NEEDED = ["data", "out"]


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Return a writer of YAML files."""
    number = iter(range(100))

    def write(text: str) -> str:
        path = tmp_path / f"{next(number)}.yaml"
        path.write_text(text)
        return str(path)

    return write


def refused(*argv: str) -> str:
    """Return the message of a command line that must be refused: one line."""
    with pytest.raises(ConfigError) as caught:
        parse(program, [*argv])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_later_files_win_over_earlier_ones_key_by_key(config) -> None:
    first = config("train: {epochs: 5, learning_rate: 5e-4}\naugment: {volume: 2, noise: {probability: 0.1}}\n")
    second = config("train: {epochs: 7}\naugment: {noise: {probability: 0.2}}\n")
    values = parse(program, [*NEEDED, "-c", first, f"-c={second}"])
    assert values["train"] == Train(5e-4, 7)
    assert values["augment"] == Augment(Noise(0.2), 2.0)
    assert parse(program, [*NEEDED, f"--config={second}", f"-c{first}"])["train"].epochs == 5


@settings(deadline=None, max_examples=25)
@given(st.permutations(["-c A", "-c=B", "--train.epochs 9", "--max-skip-ratio 0.5", "--json"]))
def test_the_command_line_wins_wherever_it_stands(tmp_path_factory, parts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("order")
    for name, epochs in (("A", 5), ("B", 6)):
        (folder / name).write_text(f"train: {{epochs: {epochs}}}\nmax_skip_ratio: 0.1\njson: false\n")
    argv = " ".join(parts).replace("A", str(folder / "A")).replace("B", str(folder / "B")).split()
    values = parse(program, [*NEEDED, *argv])
    assert (values["train"].epochs, values["max_skip_ratio"], values["json"]) == (9, 0.5, True)


def test_dotted_options_reach_optional_groups(config) -> None:
    file = config("augment: {volume: 2}\n")
    values = parse(program, [*NEEDED, "-c", file, "--augment.noise.probability", "0.3", "--train.freeze", "[a, b]"])
    assert values["augment"] == Augment(Noise(0.3), 2.0) and values["train"].freeze == ["a", "b"]
    assert parse(program, [*NEEDED, "-c", file, "--augment", "null"])["augment"] is None
    assert parse(program, [*NEEDED, "-c", config("augment: null\n")])["augment"] is None


def test_leading_words_are_the_required_parameters() -> None:
    assert parse(program, ["a", "b"])["outdir"] == "b"
    assert parse(program, ["a", "--outdir", "b"])["data_dir"] == "a"
    assert "unexpected 'c'" in refused("a", "b", "c")
    assert "missing outdir; give --outdir VALUE" in refused("a")


@dataclass
class Model:
    """A model."""

    path: str
    size: str | None = None


def renamed(model: Model, out: str, cuts: str = "") -> None:
    """Take what is called the same in every program."""


def test_former_names_and_a_path_for_its_group(config) -> None:
    expected = {"model": Model("m", "tiny"), "out": "o", "cuts": ""}
    for words in ("--model_path m --outdir o", "--model=m --outdir=o", "--model.path m --out o"):
        assert parse(renamed, [*words.split(), "--model.size", "tiny"]) == expected
    assert parse(renamed, ["--model", "{path: m, size: tiny}", "--out", "o"]) == expected
    old = config("model: {path: m, size: tiny}\noutdir: '1e5'\n")
    assert parse(renamed, ["-c", old]) == expected | {"out": "1e5"}
    assert parse(renamed, ["-c", old, "--out", "o"]) == expected
    with pytest.raises(ConfigError, match="twice"):
        parse(renamed, ["-c", config("outdir: a\nout: b\nmodel: {path: m}\n")])


@settings(deadline=None, max_examples=25)
@given(
    st.builds(
        Train,
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(),
        st.sampled_from(["constant", "linear"]),
        st.none() | st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)),
    ),
    st.none() | st.builds(Augment, st.none() | st.builds(Noise), st.floats(0, 1)),
)
def test_what_to_yaml_writes_is_read_back_as_it_was(tmp_path_factory, train: Train, augment: Augment | None) -> None:
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_text(to_yaml({"data_dir": "d", "outdir": "o", "train": train, "augment": augment}), encoding="utf-8")
    values = parse(program, ["-c", str(path)])
    assert (values["train"], values["augment"]) == (train, augment)


def test_print_config_prints_nothing_but_yaml_that_is_accepted_back(config, capsys) -> None:
    argv = [*NEEDED, "-c", config("train: {learning_rate: 5e-4}\n"), "--augment.noise.probability", "0.3"]
    with pytest.raises(SystemExit) as left:
        run(program, [*argv, "--print_config"])
    out, err = capsys.readouterr()
    assert left.value.code == 0 and err == ""
    assert yaml.safe_load(out)["train"]["learning_rate"] == 5e-4
    assert parse(program, ["-c", config(out)]) == parse(program, argv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  lerning_rate: 1\n", ":2: unknown key 'train.lerning_rate'; did you mean 'train.learning_rate'?"),
        ("trian:\n  epochs: 1\n", ":1: unknown key 'trian'; did you mean 'train'?"),
        ("learning_rate: 1\n", "did you mean 'train.learning_rate'?"),
        ("augment:\n  noise:\n    probablity: 1\n", ":3: unknown key 'augment.noise.probablity'; did you mean"),
        ("augment: {qqq: 1}\n", "legal are augment.noise, augment.volume;"),
        ("debug: true\n", "unknown key 'debug'"),
        ("train:\n  epochs: 1\n  epochs: 2\n", "key 'epochs' twice in "),
        ("train: {epochs: 1}\ntrain: {freeze: null}\n", "lines 1 and 2"),
        ("train.epochs: 1\ntrain: {epochs: 2}\n", "key 'train.epochs' twice in "),
        ("config: other.yaml\n", "repeat -c on the command line instead"),
        ("train:\n  epochs: abc\n", ":2: train.epochs is 'abc', expected int"),
        ("train:\n  schedule: cosine\n", ":2: train.schedule is 'cosine', expected one of 'constant', 'linear'"),
        ("train:\n  freeze: 3\n", ":2: train.freeze is '3', expected list[str] or null"),
        ("augment:\n  noise:\n    probability: x\n", ":3: augment.noise.probability is 'x', expected float"),
        ("train: other.yaml\n", ":1: train is a group; expected indented"),
        ("train: [1, 2]\n", ":1: train is a group"),
        ("- 1\n", "holds a list; expected `key: value` lines"),
        ("train:\n\tepochs: 1\n", "is not plain YAML"),
        ("\udcff", "is not plain YAML"),
    ],
)
def test_a_wrong_config_is_refused_with_its_file_line_and_remedy(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    told = refused(*NEEDED, "-c", str(path))
    assert message in told and str(path) in told


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--train.lerning_rate", "1"], "did you mean 'train.learning_rate'?"),
        (["--lerning_rate", "1"], "did you mean 'train.learning_rate'?"),
        (["--trian.epochs", "1"], "did you mean 'train.epochs'?"),
        (["--augment.noise.probablity=1"], "did you mean 'augment.noise.probability'?"),
        (["--max_skip", "1"], "did you mean 'max_skip_ratio'?"),  # not taken as an abbreviation either
        (["--conf", "x.yaml"], "unknown key 'conf'"),
        (["--train.epochs", "x"], "train.epochs is 'x', expected int"),
        (["--train.schedule", "cosine"], "expected one of 'constant', 'linear'"),
        (["--json", "perhaps"], "json is 'perhaps', expected bool"),
        (["--train.epochs"], "expected one argument"),
        (["--train", "other.yaml"], "write --train.KEY VALUE, or give a file to -c"),
        (["-c", "nowhere.yaml"], "config file 'nowhere.yaml' does not exist"),
        (["-c"], "does not exist"),
        (["--train", "{lerning_rate: 1}"], "did you mean 'train.learning_rate'?"),
        (["--train", "{epochs: x}"], "train.epochs is 'x', expected int"),
        (["--train", "{"], "--train is not plain YAML"),
        (["--augment.help"], "unknown key 'augment.help'; legal are augment.noise, augment.volume;"),
    ],
)
def test_a_wrong_option_is_refused_with_what_was_meant(argv: list[str], message: str) -> None:
    assert message in refused(*NEEDED, *argv)


def test_a_wrong_value_is_looked_for_in_the_file_that_has_it(config) -> None:
    wrong, right = config("train: {epochs: abc}\n"), config("train: {epochs: 3}\n")
    assert refused(*NEEDED, "-c", wrong, "-c", right).startswith(f"{wrong}:1: ")
    assert refused(*NEEDED, "-c", right, "--train.epochs", "x").startswith("train.epochs is")


def test_what_an_optional_group_needs_is_named(config) -> None:
    @dataclass(frozen=True)
    class Rooms:
        """Rooms."""

        folder: str
        """Where from."""
        share: float = 0.3
        """How many."""

    def other(rooms: Rooms | None = None) -> None:
        """Go.

        Args:
            rooms: Rooms.
        """

    for argv in (["--rooms.share", "0.5"], ["-c", config("rooms: {share: 0.5}\n")], ["--rooms", "{share: 0.5}"]):
        with pytest.raises(ConfigError, match=r"^missing rooms\.folder; give --rooms\.folder VALUE, or a file"):
            parse(other, argv)
    assert parse(other, [])["rooms"] is None


def test_a_text_that_looks_like_a_number_stays_a_text(config) -> None:
    values = {"data_dir": "1e5", "outdir": "0E0", "train": Train(freeze=["1_0", "nan", "-3"])}
    assert parse(program, ["-c", config(to_yaml(values))])["train"] == values["train"]
    assert parse(program, ["-c", config(to_yaml(values))])["data_dir"] == "1e5"


def test_a_file_of_comments_changes_nothing(config) -> None:
    assert parse(program, [*NEEDED, "-c", config("# epochs: 3\n")]) == parse(program, NEEDED)


@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.system", "python/object/new:os.system", "python/name:os.system"]
)
def test_no_tag_in_yaml_runs_anything(config, tmp_path, monkeypatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is not plain YAML" in refused("-c", config(f"data_dir: !!python/{tag} [touch PWN]\n"))
    for option in (f"--data_dir=!!python/{tag} [touch PWN]", f"--train={{epochs: !!python/{tag} [touch PWN]}}"):
        with contextlib.suppress(ConfigError):
            parse(program, ["a", "b", option])
    assert not (tmp_path / "PWN").exists()


def test_debug_adds_the_traceback_to_the_same_line_and_code(capsys) -> None:
    for argv in (["raise", "o", "--debug"], ["--debug", "raise", "o"]):
        with pytest.raises(SystemExit) as left:
            run(program, argv)
        err = capsys.readouterr().err
        assert left.value.code == 1 and "Traceback" in err and "error: RuntimeError: ouch in o second line" in err


def test_help_is_the_docstring_with_every_option(capsys) -> None:
    with pytest.raises(SystemExit) as left:
        run(program, ["-h"], prog="egrecho train")
    out = capsys.readouterr().out
    assert left.value.code == 0
    for words in (
        "usage: egrecho train",
        "Train on a folder.",
        "Where from.",
        "--train.learning_rate",
        "-c",
        "--debug",
    ):
        assert words in out
    assert "Args:" not in out


def test_config_alone_imports_no_torch() -> None:
    script = "import sys, egrecho_inner.config; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def several(results: dict[str, str] | list[str] | str, out: str = "x") -> None:
    """Take results."""


several.positional = ["results"]


def test_words_may_stand_behind_the_configs(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("out: y\n")
    assert parse(several, ["-c", str(tmp_path / "a.yaml"), "a=1", "b=2"]) == {"results": ["a=1", "b=2"], "out": "y"}


def listed(cuts: list[str] | None = None, either: list[str] | str = "x", numbers: list[int] | None = None) -> None:
    """Take lists."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--cuts", "a"], {"cuts": ["a"]}),
        (["--cuts", "a", "b=[c],d"], {"cuts": ["a", "b=[c],d"]}),
        (["--cuts", "[a,b]"], {"cuts": ["a", "b"]}),
        (["--cuts", "null"], {}),
        (["--cuts=[a]"], {"cuts": ["a"]}),
        (["--either", "a"], {"either": "a"}),
        (["--either", "a", "b"], {"either": ["a", "b"]}),
        (["--numbers", "1", "2"], {"numbers": [1, 2]}),
        (["--numbers", "3"], {"numbers": [3]}),
    ],
)
def test_an_option_that_takes_a_list_takes_words(words: list[str], expected: dict[str, object]) -> None:
    assert parse(listed, words) == {"cuts": None, "either": "x", "numbers": None} | expected


@pytest.mark.parametrize("words", [["a=1", "b=2"], ["[a=1,b=2]"], ["[a=1, b=2]"]])
def test_a_positional_list_is_words_or_one_list(words: list[str]) -> None:
    assert parse(several, [*words, "--out", "y"]) == {"results": ["a=1", "b=2"], "out": "y"}
