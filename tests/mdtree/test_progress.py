"""Progress goes to standard error, a line now and then where nobody looks on."""

from mdtree.cli import progress


def test_lines_tell_share_and_time_left_and_start_anew_with_a_new_stage(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress_bar("zoo") as show:
        for second, share, what in ((0, 0.0, "a"), (5, 0.1, "a"), (20, 0.5, "a"), (25, 0.0, "b"), (40, 0.25, "b")):
            now[0] = second
            show(what, share)
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.splitlines() == ["zoo: 50%, 20 s left  a", "zoo: 25%, 45 s left  b"]
