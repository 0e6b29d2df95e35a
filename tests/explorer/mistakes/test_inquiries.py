from __future__ import annotations

import threading

import pytest

from olivine.errors import UserError
from olivine.explorer.mistakes.inquiries import Inquiries, Inquiry
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject


@pytest.fixture(scope="module")
def moments(root):
    street, runs = root / "datasets" / "street", root / "runs"
    return Moments(open_subject([street, runs / "segmenter", runs / "pretraining"]))


class Counting:
    """Looks at a frame when it is told to."""

    def __init__(self):
        self.may, self.asked, self.added = threading.Semaphore(0), threading.Semaphore(0), []

    def look(self, moment):
        self.asked.release()
        self.may.acquire(timeout=30)
        return moment.index

    def add(self, place, found):
        self.added.append(found)


def test_it_is_stopped_and_goes_on_where_it_was(moments):
    table = Counting()
    inquiry = Inquiry(moments, [], table)
    assert not inquiry.running
    inquiry.start()
    thread = inquiry._thread
    inquiry.start()  # goes on already
    assert inquiry._thread is thread
    table.asked.acquire(timeout=30)
    assert inquiry.running
    inquiry.stop()
    table.may.release()
    inquiry._thread.join(30)
    assert (len(table.added), inquiry.running, inquiry.survey.whole) == (1, False, False)
    for _ in range(3):
        table.may.release()
    inquiry.start()
    inquiry._thread.join(30)
    assert sorted(table.added) == [0, 1, 2, 3]
    assert inquiry.survey.whole
    inquiry.start()  # is through
    inquiry.stop(wait_s=30)
    assert len(table.added) == 4


def test_what_ends_it_is_said(moments):
    class Failing(Counting):
        def look(self, moment):
            raise RuntimeError("broken")

    inquiry = Inquiry(moments, [], Failing())
    inquiry.start()
    inquiry._thread.join(30)
    assert "broken" in inquiry.trouble


def test_each_question_is_asked_once_for_all(moments):
    inquiries, network = Inquiries(moments), moments.networks["segmenter"]
    inquiry = inquiries.confusion(network)
    assert inquiries.confusion(network) is inquiry
    inquiry.start()
    inquiry._thread.join(60)
    assert (inquiry.trouble, inquiry.table.frames) == ("", 4)
    assert inquiries.versus(network, network) is inquiries.versus(network, network)
    with pytest.raises(UserError, match="predicts no classes"):
        inquiries.confusion(moments.networks["pretraining"])
    inquiries.stop()
    assert inquiry.survey.stopped
