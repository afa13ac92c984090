from pathlib import Path

import numpy as np
import pytest
import torch

from outcrop.base.errors import InvariantError, UserError
from outcrop.training.shards import Cursor, Document, Shard, pack, positions_of, write_shard


def document(length: int, first: int = 1) -> Document:
    return Document(list(range(first, first + length)), [100] * length)


def test_rows_hold_whole_documents_in_order_of_arrival_where_they_fit() -> None:
    rows = list(pack([document(6), document(5), document(4), document(3)], row_tokens=10))
    assert [[len(d.tokens) for d in row] for row in rows] == [[6, 4], [5, 3]]


def test_document_longer_than_a_row_is_cut() -> None:
    (row,) = pack([document(12)], row_tokens=10)
    assert list(row[0].tokens) == list(range(1, 11))


def test_every_token_is_packed_once() -> None:
    lengths = np.random.default_rng(1).integers(1, 30, 300)
    rows = list(pack([document(int(n)) for n in lengths], row_tokens=40))
    assert sorted(len(d.tokens) for row in rows for d in row) == sorted(lengths.tolist())
    assert all(sum(len(d.tokens) for d in row) <= 40 for row in rows)


def test_shard_gives_back_tokens_weights_documents_and_positions(tmp_path: Path) -> None:
    write_shard(tmp_path, [document(3, 10), Document([20, 21], [0, 50])], row_tokens=6)
    batch = Shard(tmp_path).batch(np.array([0]))
    assert batch.tokens.tolist() == [[10, 11, 12, 20, 21, 0]]
    assert batch.documents.tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0]]
    # The first token of a document is predicted by nothing, and the unused tail is not trained.
    assert torch.equal(batch.weights, torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.5, 0.0]]))


def test_positions_restart_with_each_document() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 2, 2], [0, 1, 1, 1, 1, 1]])
    assert positions_of(documents).tolist() == [[0, 1, 2, 0, 0, 1], [0, 0, 1, 2, 3, 4]]


def test_missing_shard_is_a_user_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no-shard"):
        Shard(tmp_path / "no-shard")


def test_cursor_visits_every_row_once_in_an_epoch_and_shuffles_anew() -> None:
    cursor = Cursor(rows=12, batch_rows=4, seed=5)
    epochs = [np.concatenate([cursor.next_rows() for _ in range(3)]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_restored_cursor_gives_the_same_batches() -> None:
    cursor = Cursor(rows=10, batch_rows=3, seed=5)
    for _ in range(5):
        cursor.next_rows()
    state = cursor.state()
    expected = [cursor.next_rows().tolist() for _ in range(4)]
    other = Cursor(rows=10, batch_rows=3, seed=5)
    other.restore(state)
    assert [other.next_rows().tolist() for _ in range(4)] == expected


def test_batch_larger_than_the_shard_is_refused() -> None:
    with pytest.raises(InvariantError):
        Cursor(rows=3, batch_rows=4, seed=0)
