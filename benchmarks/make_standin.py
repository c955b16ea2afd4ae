"""Makes the stand-in for MRPC: train.tsv and dev.tsv of src/demo_bert/tasks/standin."""

import random
import re
import tomllib
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
SEED = 20261122
NUM_PAIRS = {"train": 1600, "dev": 400}
POOL = 8
CHANGED = (1, 1, 2, 2, 3)
import sys, json
MIX = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {"changed": [1, 2, 2, 3], "same_pos": 0.3, "same_neg": 0.5, "entity": 0.05}
OUT = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE

def words(s): return re.findall(r"[a-z0-9,]*[a-z0-9]", s.lower())

def render(template, meaning, wording):
    def fill(m):
        slot, _, form = m.group(1).partition(".")
        text = wording[slot]
        if form:
            head, _, rest = text.partition(" ")
            text = (head.split("/")[("past", "base", "ing").index(form)] + " " + rest).strip()
        return text
    s = re.sub(r"\{([a-z.]+)\}", fill, template)
    return s[0].upper() + s[1:] + "."

def draw(rng, frame, entities):
    m = {s: rng.randrange(len(c)) for s, c in frame["concepts"].items()}
    e = {s: rng.choice(entities[l]) for s, l in frame["entities"].items()}
    return m, e

def pair(rng, frame, ents, label):
    m, e = draw(rng, frame, ents)
    m2, e2, kind = dict(m), dict(e), "paraphrase"
    if not label:
        if rng.random() < MIX["entity"] and e:
            s = rng.choice(sorted(e)); e2[s] = rng.choice([x for x in ents[frame["entities"][s]] if x != e[s]]); kind = "entity"
            pass
        else:
            k = rng.choice(MIX["changed"]); kind = f"changed{k}"
            for s in rng.sample(sorted(m), min(k, len(m))):
                m2[s] = rng.choice([i for i in range(len(frame["concepts"][s])) if i != m[s]])
    t1 = rng.choice(frame["templates"]); t2 = rng.choice([t for t in frame["templates"] if t != t1])
    same = MIX["same_pos"] if label else MIX["same_neg"]
    w1, w2 = dict(e), dict(e2)
    for s, concepts in frame["concepts"].items():
        i = rng.randrange(len(concepts[m[s]])); w1[s] = concepts[m[s]][i]
        if m2[s] == m[s]:
            j = i if rng.random() < same else rng.choice([x for x in range(len(concepts[m[s]])) if x != i])
            w2[s] = concepts[m[s]][j]
        else:
            w2[s] = rng.choice(concepts[m2[s]])
    return render(t1, m, w1), render(t2, m2, w2), kind

def key(a, b):
    x, y = words(a), words(b)
    return (int(12 * len(set(x) & set(y)) / len(set(x) | set(y))), max(-3, min(3, len(x) - len(y))) // 2)

def part(name):
    data = tomllib.loads((HERE / f"standin_{name}.toml").read_text())
    rng = random.Random(f"{SEED} {name}")
    frames = data["frames"]; n = NUM_PAIRS[name]; out = []; used = set()
    for fi, frame in enumerate(frames):
        want = n // len(frames) + (fi < n % len(frames)); want += want % 2
        pools = (defaultdict(list), defaultdict(list))
        got = 0
        rows = []
        while got < want:
            label = rng.randrange(2)
            a, b, kind = pair(rng, frame, data["entities"], label)
            if not all(12 <= len(words(s)) <= 25 for s in (a, b)) or a in used or b in used or a == b: continue
            k = key(a, b)
            if MIX.get('free', 0) > rng.random():
                k = 'free'
            other = pools[1 - label][k]
            if other:
                o = other.pop()
                if o[1] in used or o[2] in used: continue
                rows += [(label, a, b, kind), o]; used |= {a, b, o[1], o[2]}; got += 2
            else:
                pools[label][k].append((label, a, b, kind))
        out += rows
    rng.shuffle(out)
    return out[:n]

if __name__ == "__main__":
    nid = 1
    for name in NUM_PAIRS:
        rows = part(name)
        with open(OUT / f"{name}.tsv", "w") as f, open(OUT / f"{name}.kinds", "w") as g:
            f.write("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n")
            for l, a, b, k in rows:
                f.write(f"{l}\t{nid}\t{nid+1}\t{a}\t{b}\n"); g.write(k + "\n"); nid += 2
        from collections import Counter
        print(name, len(rows), Counter(r[3] for r in rows), sum(r[0] for r in rows))
