#!/usr/bin/env python3
"""Verifies this archive with nothing but Python: what each line proves, and that no line is missing between two others.

SHA-256(hash_before followed by payload) is hash, for every line of every chain. In an archive of everything, each line's
hash_before is the hash of the line before it, and the last one is the end of its chain in heads.json.
"""
import datetime
import glob
import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# What an audit record says in words, by the number of the field in its payload (docs/evidence.md of pixelward).
FIELDS = {2: 'id', 5: 'controller', 6: 'mailstream', 9: 'rule', 10: 'version', 12: 'decided', 13: 'done', 22: 'result'}
# The states of consent records, by their number.
STATES = ('never_asked', 'asked', 'granted', 'refused', 'withdrawn', 'objected')
faults = []


def fields(payload):
    at = 1
    while at < len(payload):
        length = int.from_bytes(payload[at + 1:at + 5], 'little')
        yield payload[at], payload[at + 5:at + 5 + length]
        at += 5 + length


def says_what_it_proves(kind, line, payload):
    if kind == 'evidence':
        return all(line[FIELDS[number]] == content.decode() for number, content in fields(payload) if number in FIELDS)
    if kind == 'audit':
        entry = json.loads(payload[1:])
        return all(entry[name] == line[name] for name in entry)
    if 'state' not in line:
        return True
    # How, where and with what reference is encrypted in the payload; the rest stands there in clear.
    clear = dict(fields(payload))
    said = datetime.datetime.fromtimestamp(int.from_bytes(clear[5], 'little', signed=True) // 1000, datetime.timezone.utc)
    return (line['controller'] == clear[1].decode() and line['state'] == STATES[clear[4][0]]
            and line['event_time'].startswith(said.strftime('%Y-%m-%dT%H:%M:%S')))


def main():
    with open(os.path.join(HERE, 'heads.json'), encoding='utf-8') as file:
        heads = json.load(file)
    count = 0
    for kind in ('evidence', 'consent', 'audit'):
        last = {}
        for path in sorted(glob.glob(os.path.join(HERE, kind, '*.jsonl'))):
            with open(path, encoding='utf-8') as file:
                for number, text in enumerate(file, 1):
                    where = f'{os.path.relpath(path, HERE)}:{number}'
                    line = json.loads(text)
                    proof = line['proof']
                    payload = bytes.fromhex(proof['payload'])
                    hash = hashlib.sha256(bytes.fromhex(proof['hash_before']) + payload).hexdigest()
                    if hash != proof['hash']:
                        faults.append(f'{where}: the payload does not lead from hash_before to hash')
                    if not says_what_it_proves(kind, line, payload):
                        faults.append(f'{where}: the line says something else than its payload')
                    chain = str(proof.get('chain', kind))
                    before = last.get(chain, heads[kind].get(chain, {}).get('begins'))
                    if heads['complete'] and before is not None and before != proof['hash_before']:
                        faults.append(f'{where}: a line is missing before this one')
                    last[chain] = proof['hash']
                    count += 1
        if heads['complete']:
            for chain, head in heads[kind].items():
                if last.get(chain, head['begins']) != head['ends']:
                    faults.append(f'{kind}: the chain {chain} does not end as heads.json says')
    for fault in faults:
        print(fault)
    if not faults:
        print(f'{count} lines are what their chains say' + (', and none is missing.' if heads['complete'] else '.'))
    return 1 if faults else 0


sys.exit(main())
