from __future__ import annotations

import threading
from pathlib import Path

import pytest
from drawing import require_qt

from realtime_mer.window.notices import Notices

TIMEOUT_S = 60.0


@pytest.fixture(autouse=True, scope="module")
def qt() -> None:
    require_qt()


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    from realtime_mer.window.pictures import write_new

    paths = [write_new(b"%d" % number, [tmp_path], "name", ".png") for number in range(3)]
    assert [path.name for path in paths] == ["name.png", "name (2).png", "name (3).png"]
    assert [path.read_bytes() for path in paths] == [b"0", b"1", b"2"]
    assert all(path.is_absolute() for path in paths)


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    from realtime_mer.window.pictures import write_new

    (tmp_path / "name.png").symlink_to(tmp_path / "elsewhere")
    assert write_new(b"0", [tmp_path], "name", ".png").name == "name (2).png"
    assert not (tmp_path / "elsewhere").exists()


def test_where_one_folder_takes_no_file_the_next_one_is_asked(tmp_path: Path) -> None:
    from realtime_mer.window.pictures import write_new

    assert write_new(b"0", [tmp_path / "absent", tmp_path], "name", ".png") == tmp_path / "name.png"
    with pytest.raises(OSError, match="absent"):
        write_new(b"0", [tmp_path / "other", tmp_path / "absent"], "name", ".png")


def test_what_cannot_be_written_whole_leaves_nothing_behind(tmp_path: Path) -> None:
    from realtime_mer.window.pictures import write_new

    resource = pytest.importorskip("resource", reason="no limits of a file's size here")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_new(b"0" * 100_000, [tmp_path], "name", ".png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_saving_waits_for_nobody_and_refuses_a_second_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from realtime_mer.window import pictures
    from realtime_mer.window.qt import QtGui

    go_on = threading.Event()
    write = pictures.write_new

    def slow(*arguments: object) -> Path:
        go_on.wait(TIMEOUT_S)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "write_new", slow)
    notices = Notices()
    saver = pictures.PictureSaver(notices, [tmp_path])
    image = QtGui.QImage(20, 10, QtGui.QImage.Format.Format_RGB32)
    image.fill(0)
    saver.save(image)
    saver.save(image)
    assert [notice.text for notice in notices.current()] == ["A picture is still being saved."]
    saver.finish(0.01)
    go_on.set()
    saver.finish(TIMEOUT_S)
    (file,) = tmp_path.iterdir()
    assert [notice.text for notice in notices.current()][1:] == [f"Saved as {file}"]
    assert QtGui.QImage(str(file)).size() == image.size()


def test_a_picture_that_there_is_not_is_told(tmp_path: Path) -> None:
    from realtime_mer.window.pictures import PictureSaver
    from realtime_mer.window.qt import QtGui

    notices = Notices()
    saver = PictureSaver(notices, [tmp_path])
    saver.save(QtGui.QImage())
    saver.finish(TIMEOUT_S)
    (notice,) = notices.current()
    assert notice.fault
    assert "No picture was saved" in notice.text
    assert list(tmp_path.iterdir()) == []
