"""Broken annotation and detection files, passed to ``hkd`` in this process.

Each test writes a small valid file, breaks it in some hundred ways (the same in every run), and holds every outcome to
one of two: exit code 2 with one message that names the file and the record, and nothing written; or exit code 0 with
the numbers that a plain reader of the test (:mod:`tests.fuzz.plain_readers`) finds in the broken file, and a report of
everything that was dropped. ``HKD_FUZZ_FACTOR=10`` searches ten times as long.

Not detected: damage that leaves another valid file (a changed digit, a text truncated at the end of a line); pixels
inside images; and rules that both readers misread in the same way.
"""
