"""Checkpoints in an object store that speaks S3: the same words, the same files, the same falling back."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.checkpoint import AsyncCheckpointIO
from levin.checkpoint.index import INDEX_NAME, Index
from levin.checkpoint.io import load
from levin.testing import BoringModel, RandomDataset
from levin.utils import paths

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # those libraries warn of themselves

RUN = "s3://bucket/run"


@pytest.fixture
def store(monkeypatch):
    """A server of its own for the test, with an empty bucket; a file system that speaks to it."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir("bucket")
    yield files
    files.rm("bucket", recursive=True)  # what the server holds belongs to the process
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def fit(folder, epochs, ckpt_path=None, **arguments):
    class Model(BoringModel):
        def on_train_epoch_end(self):
            epochs_run.append(self.current_epoch)

    epochs_run = []
    trainer = L.Trainer(
        default_root_dir=folder, logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, max_epochs=epochs, limit_val_batches=0, **arguments,
        callbacks=[ModelCheckpoint(RUN, "{step}", save_last=True)],
    )  # fmt: skip
    trainer.fit(Model(), DataLoader(RandomDataset(32, 4)), ckpt_path=ckpt_path)
    return epochs_run


def names():
    return [name for name in paths.listdir(RUN) if name != INDEX_NAME]


@pytest.mark.parametrize("plugins", [[], [AsyncCheckpointIO()]], ids=["at once", "meanwhile"])
def test_a_run_leaves_its_newest_file_a_copy_as_last_and_an_index(store, tmp_path, plugins):
    assert fit(tmp_path, 3, plugins=plugins) == [0, 1, 2]
    assert names() == ["last.ckpt", "step=12.ckpt"]
    assert load(f"{RUN}/last.ckpt")["global_step"] == 12
    assert [(commit.name, commit.step) for commit in Index(RUN).present()] == [("step=12.ckpt", 12)]


@pytest.mark.parametrize("word", ["auto", "last", f"{RUN}/last.ckpt", f"{RUN}/step=4.ckpt"])
def test_the_next_process_goes_on(store, tmp_path, word):
    fit(tmp_path, 1)
    assert fit(tmp_path, 2, word) == [1]


@pytest.mark.parametrize(
    ("word", "damaged", "used"), [("auto", "step=8", "last"), ("last", "last", "step=8")]
)
def test_a_damaged_object_is_passed_over(store, tmp_path, word, damaged, used):
    fit(tmp_path, 2)
    content = bytearray(store.cat_file(f"{RUN}/{damaged}.ckpt"))
    content[len(content) // 2] ^= 1
    store.pipe_file(f"{RUN}/{damaged}.ckpt", bytes(content))
    with pytest.warns(UserWarning, match=f"ckpt_path='{word}': {RUN}/{used}.ckpt is used instead"):
        assert fit(tmp_path, 3, word) == [2]


def test_an_object_is_there_whole_or_not_at_all(store, tmp_path):
    def write_a_half():
        with paths.atomic_writer(f"{RUN}/a.ckpt") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_a_half()
    assert not paths.exists(f"{RUN}/a.ckpt")
