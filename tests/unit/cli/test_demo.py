from __future__ import annotations

import re
import sys

import pytest
import torch

from levin.cli import demo


def png_size(path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_the_three_parts_of_the_data_share_no_image():
    data = demo.Digits()
    data.setup("fit")
    parts = [set(part.indices) for part in (data.train_set, data.val_set, data.test_set)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_a_batch_is_images_from_zero_to_one_and_their_labels():
    data = demo.Digits(batch_size=4)
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (4, 1, 8, 8)
    assert labels.dtype == torch.int64
    assert 0 <= images.min() < images.max() <= 1


def test_the_network_gives_ten_scores_an_image():
    assert demo.DigitsClassifier()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_curves_are_read_by_name_and_epoch(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss,val_loss\n0,9,,2.0\n0,9,3.0,\n1,19,,1.0\n")
    curves = demo.read_curves(tmp_path / "metrics.csv")
    assert curves == {"val_loss": [(1, 2.0), (2, 1.0)], "train_loss": [(1, 3.0)]}


def test_missing_packages_are_told_all_at_once(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert demo.main([]) == 1
    assert "pip install scikit-learn tensorboard\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"), [("--epochs 0", "one or more"), ("--out taken", "that is a file")]
)
def test_an_option_that_can_not_be_is_told_before_anything_runs(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit, match="2"):
        demo.main(words.split())
    assert told in capsys.readouterr().err


@pytest.fixture
def words_of(tmp_path, monkeypatch, capsys):
    """Run the demo in an empty folder, and return what it says at the end."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> str:
        assert demo.main(options) == 0
        return capsys.readouterr().out

    return run


def test_everything_the_demo_names_is_there(words_of, tmp_path):
    words = words_of("--epochs", "1")
    named = dict(re.findall(r"^  (best checkpoint|numbers|curves) +(\S+)$", words, flags=re.MULTILINE))
    assert set(named) == {"best checkpoint", "numbers", "curves"}
    assert all((tmp_path / place).is_file() for place in named.values())
    assert png_size(tmp_path / named["curves"]) == (1500, 630)
    assert list((tmp_path / "levin_demo" / "version_0").glob("events.out.tfevents*"))
    assert "--logdir levin_demo" in words


def test_a_second_demo_leaves_the_first_alone(words_of, tmp_path):
    words_of("--epochs", "1")
    first = (tmp_path / "levin_demo/version_0/metrics.csv").read_bytes()
    words_of("--epochs", "1", "--seed", "1")
    assert (tmp_path / "levin_demo/version_0/metrics.csv").read_bytes() == first
    assert (tmp_path / "levin_demo/version_1/curves.png").is_file()


@pytest.mark.slow
def test_ten_epochs_read_at_least_97_of_100_test_digits(words_of):
    [accuracy] = re.findall(r"reads (\S+)% of the test digits", words_of())
    assert float(accuracy) >= 97
