from tests.documents.readers.conftest import Decode


def test_a_file_that_changed_is_read_anew(decode: Decode) -> None:
    before = decode("x.txt", b"one\n")
    after = decode("x.txt", b"one\ntwo\n")
    assert (before.num_rows, after.num_rows) == (1, 2)
