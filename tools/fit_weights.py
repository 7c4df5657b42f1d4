#!/usr/bin/env python3
"""Fits the weights of signals on labelled messages.

usage: tools/fit_weights.py CORPUS [CASES] [--write] [--rounds N]

CORPUS is a folder with labels.jsonl (fields id, path, cluster, expect, trackers, legit_images). The program built in target/release says
for every place which signals hold (`pixelward scan --explain --json`); this script finds whole-number weights that part trackers from
pictures on four fifths of the clusters, and says how they do on the last fifth, which took no part. A cluster is a service or a shape of
mail, so what is held out is mail of other senders. Each place also counts as if the catalogue did not know its vendor: most senders of
later years are in no catalogue, and that score says more than the other. --write puts the weights into crates/core/src/tracker/weights.csv.

CASES is a folder with log.tsv (file, report, expectation) and messages for single kinds of faults: of those that say "tracker removed" every
place counts as a tracker, of those that say "picture kept" none. They are all fitted on: each stands for a kind.

The loss is the logistic loss of the margin, in which a picture taken for a tracker counts eight times, and a small price on every step
away from the weights that stand in the file: where the messages say nothing, a weight stays. No fact changes its sign.
"""
import collections
import hashlib
import json
import math
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
WEIGHTS = os.path.join(HERE, "..", "crates", "core", "src", "tracker", "weights.csv")
PROGRAM = os.environ.get("PIXELWARD", os.path.join(HERE, "..", "target", "release", "pixelward"))
THRESHOLD = 10
FALSE_ALARM = 8.0
STEP = 0.5
# How soon a margin is wide enough: beyond a point or two, more of it is worth little.
SHARPNESS = 2.5
# How far a weight may go from where it stands: few messages must not outweigh what holds in general.
FARTHEST = 2
# What no weights may do: decide by the look alone, against a plain picture file, against what is seen by words and tokens of its address,
# or by a number alone. The program's tests say the same of the first two.
NEVER = [
    ["Visible", "Dynamic", "OpaqueToken", "OpenWord", "OutsideBody", "HiddenAncestor"],
    ["Dynamic", "Identifier", "NoSize"],
    ["Zero", "Hidden", "HiddenAncestor", "OutsideBody", "ShowsNothing", "StaticFile"],
    # What speaks for a picture without size must be enough where nothing speaks of an opening.
    *[["NoSize", "Dynamic", "OpaqueToken", shown] for shown in ("Described", "Linked", "Fluid")],
    ["Tiny", "Hidden", "HiddenAncestor", "OutsideBody", "StaticFile"],
    ["NoSize", "Undescribed", "Last", "Hidden", "HiddenAncestor", "OutsideBody", "StaticFile"],
    ["NoSize", "ShowsNothing", "Hidden", "HiddenAncestor", "OutsideBody", "StaticFile"],
    *[[fact, "HiddenAncestor"] for fact in ("Zero", "Tiny", "Dot", "Line", "Hidden", "NoSize", "OutsideBody")],
]
# What weights must not undo: what nobody sees and what has a key goes, beside pictures of its folder too.
ALWAYS = [
    *[[look, "KeyedPixel", "Identifier", "FolderShown"] for look in ("Zero", "Tiny", "Hidden")],
    ["Dot", "KeyedPixel", "OpaqueToken"],
    ["NoSize", "Undescribed", "OpaqueToken"],
    ["NoSize", "OpenWord", "Identifier"],
    ["HiddenAncestor", "OpaqueToken", "Dynamic"],
]
# Facts that decide alone, or that other messages than these must weigh.
FIXED = {
    "VendorOpen", "Listed", "Learnt", "PersonalPicture", "VendorLink", "CarriesAddress", "ClickWord", "Choice", "Idle",
    "LocalHost", "Allowed", "RecipientInUrl", "UnseenReader", "SharedAddress", "SharedProgram", "SharedPicture",
}


def read_weights():
    with open(WEIGHTS) as file:
        rows = [line.strip().split(",") for line in file][1:]
    return {name: int(weight) for name, weight in rows}


def held_out(label):
    return hashlib.sha256(label["cluster"].encode()).digest()[0] % 5 == 0


def places(corpus, labels):
    """For each labelled place: its facts, whether it is a tracker, whether it is held out."""
    by_path = {os.path.join(corpus, label["path"]): label for label in labels}
    output = subprocess.run(
        [PROGRAM, "scan", "--json", "--explain", *by_path], check=True, capture_output=True, text=True
    ).stdout
    for line in output.splitlines():
        message = json.loads(line)
        label = by_path.get(message.get("message"))
        if label is None:
            continue
        named = [own for own in label["trackers"] if own.get("url_substring")]
        firm = [own["url_substring"] for own in named if not own.get("doubtful")]
        doubtful = [own["url_substring"] for own in named if own.get("doubtful")]
        for place in message["places"]:
            url = place["url"]
            if place["axis"] != "open" or "Idle" in place["facts"] or any(same(url, own) for own in doubtful):
                continue
            if any(same(url, own) for own in firm):
                yield frozenset(place["facts"]), True, held_out(label)
            elif label["expect"] == "unchanged" or any(same(url, own) for own in label["legit_images"]):
                yield frozenset(place["facts"]), False, held_out(label)


def cases(folder):
    """The same for the messages of single faults."""
    with open(os.path.join(folder, "log.tsv")) as file:
        lines = [line.rstrip("\n").split("\t") for line in file][1:]
    wanted = {os.path.join(folder, line[0]): line[2] for line in lines if line[2].startswith(("tracker removed", "picture kept"))}
    output = subprocess.run(
        [PROGRAM, "scan", "--json", "--explain", *wanted], check=True, capture_output=True, text=True
    ).stdout
    for line in output.splitlines():
        message = json.loads(line)
        expected = wanted.get(message.get("message"))
        for place in message["places"] if expected else []:
            if place["axis"] == "open" and "Idle" not in place["facts"]:
                # The logo that each of them has beside the fault.
                is_tracker = expected.startswith("tracker") and "StaticFile" not in place["facts"]
                yield frozenset(place["facts"]), is_tracker, False


def unknown(rows):
    """The same places as if no vendor were known."""
    return [(facts - {"VendorOpen"}, tracker) for facts, tracker in rows]


def same(url, start):
    """Whether a label names an address: hosts in lower case, long addresses cut."""
    host, _, rest = start.partition("/")
    start = host.lower() + "/" + rest
    url = url.removesuffix("…")
    if not rest:
        return url == start
    return url.startswith(start) or len(start) > len(url) > 40 and start.startswith(url)


def loss(weights, counted, start):
    total = STEP * sum(abs(weights[name] - start[name]) for name in weights)
    for (facts, tracker), count in counted.items():
        margin = sum(weights[fact] for fact in facts) - THRESHOLD + 0.5
        margin = margin if tracker else -margin
        total += (1.0 if tracker else FALSE_ALARM) * count * math.log1p(math.exp(-max(-30.0, min(30.0, SHARPNESS * margin))))
    return total


def allowed(weights, start):
    signs = all((weights[name] >= 0) == (start[name] >= 0) for name in weights)
    near = all(abs(weights[name] - start[name]) <= FARTHEST for name in weights)
    never = all(sum(weights[fact] for fact in facts) < THRESHOLD for facts in NEVER)
    return signs and near and never and all(sum(weights[fact] for fact in facts) >= THRESHOLD for facts in ALWAYS)


def fit(start, counted, rounds):
    weights, least = dict(start), loss(start, counted, start)
    for _ in range(rounds):
        before = least
        for name in weights:
            if name in FIXED:
                continue
            for step in (-1, 1):
                tried = dict(weights)
                tried[name] += step
                value = loss(tried, counted, start) if allowed(tried, start) else math.inf
                if value < least - 1e-9:
                    weights, least = tried, value
        if before - least < 1e-6:
            break
    return weights


def score(weights, rows):
    caught = missed = lost = kept = 0
    for facts, tracker in rows:
        found = sum(weights[fact] for fact in facts) >= THRESHOLD
        caught += tracker and found
        missed += tracker and not found
        lost += found and not tracker
        kept += not found and not tracker
    recall = caught / max(1, caught + missed)
    precision = caught / max(1, caught + lost)
    return f"{caught + missed} trackers, {lost + kept} pictures: recall {recall:.4f}, precision {precision:.4f} ({missed} missed, {lost} lost)"


def main():
    arguments = [own for own in sys.argv[1:] if not own.startswith("--")]
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 20
    if not arguments:
        sys.exit(__doc__)
    corpus, *folders = (own for own in arguments if not own.isdigit())
    with open(os.path.join(corpus, "labels.jsonl")) as file:
        labels = [json.loads(line) for line in file]
    rows = list(places(corpus, labels))
    rows += [row for folder in folders for row in cases(folder)]
    fitting = [(facts, tracker) for facts, tracker, out in rows if not out]
    unseen = [(facts, tracker) for facts, tracker, out in rows if out]
    start = read_weights()
    weights = fit(start, collections.Counter(fitting + unknown(fitting)), rounds)
    for name in weights:
        if weights[name] != start[name]:
            print(f"{name}: {start[name]} -> {weights[name]}")
    for name, own in (("weights of the file", start), ("fitted weights", weights)):
        for part, rows in (("fitted part", fitting), ("unseen part", unseen)):
            print(f"{name}, {part}: {score(own, rows)}")
            print(f"{name}, {part}, no vendor known: {score(own, unknown(rows))}")
    if "--write" in sys.argv:
        with open(WEIGHTS, "w") as file:
            file.write("fact,weight\n" + "".join(f"{name},{weight}\n" for name, weight in weights.items()))


if __name__ == "__main__":
    main()
