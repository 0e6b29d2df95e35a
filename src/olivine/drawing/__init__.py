"""Pictures and pages from numbers; nothing here knows of datasets or runs."""
