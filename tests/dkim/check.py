"""Signs messages, and says of each signature of a message whether it holds, by an implementation that is not ours.

check.py sign KEY SELECTOR DOMAIN FOLDER    puts a signature before each message of the folder
check.py verify RECORDS FOLDER              prints a line for each message: its name, and "yes" or "no" for each signature

RECORDS has a line for each name: the name, a blank, the record."""

import logging
import pathlib
import sys

import dkim

logging.disable(logging.CRITICAL)


def sign(key, selector, domain, folder):
    secret = pathlib.Path(key).read_bytes()
    for path in sorted(pathlib.Path(folder).glob("*.eml")):
        message = path.read_bytes()
        field = dkim.sign(message, selector.encode(), domain.encode(), secret, canonicalize=(b"relaxed", b"relaxed"))
        path.write_bytes(field + message)


def verify(records, folder):
    known = dict(line.split(" ", 1) for line in pathlib.Path(records).read_text().splitlines())

    def lookup(name, timeout=5):
        text = name.decode() if isinstance(name, bytes) else name
        record = known.get(text.rstrip("."))
        return record.encode() if record else None

    for path in sorted(pathlib.Path(folder).glob("*.eml")):
        message = path.read_bytes()
        checker = dkim.DKIM(message)
        count = sum(1 for name, _ in checker.headers if name.lower() == b"dkim-signature")
        found = []
        for index in range(count):
            try:
                found.append("yes" if dkim.DKIM(message).verify(idx=index, dnsfunc=lookup) else "no")
            except dkim.DKIMException as error:
                found.append(f"no({error})".replace(" ", "_"))
        print(path.stem, *found)


{"sign": sign, "verify": verify}[sys.argv[1]](*sys.argv[2:])
