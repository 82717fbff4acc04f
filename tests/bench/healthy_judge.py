"""The promise, counted: how often does `canary judge` roll back a healthy version?

    python tests/bench/healthy_judge.py --runs 10000 --jobs 2

Each run is a seeded shop whose new version is as good as the old one: Poisson orders, the daily wave, slow noise on
both arms. Its looks go through the very road of `canary judge`, a line of JSON in and a line out, and the weight rises
whenever the judge says Advance. Prints one JSON object; the exit code is 1 where more than 0.1 % were rolled back.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from math import exp, sqrt
from multiprocessing import Pool
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "detect"))

import simulated_shop as shops

from canary.core.detect.family import Settings
from canary.core.judge import next_weight, verdicts

SETTINGS = Settings(weights_ppm=(5_000, 10_000, 50_000, 100_000, 250_000))
SHOP = shops.Shop(rate=100.0, look_seconds=5.0)
PROMISE = 0.001


def one_run(job: tuple[int, float]) -> str:
    """Return the worst word that the judge said in one healthy run: RollBack, Drain, or the last one."""
    seed, seconds = job
    weight = SETTINGS.weights_ppm[0]

    def lines() -> Iterator[str]:
        rng = Random(f"healthy judge {seed}")
        keep = exp(-SHOP.look_seconds / shops.NOISE_MEMORY_SECONDS)
        noise, shown, t = rng.gauss(0.0, shops.NOISE_SD), weight, 0.0
        while t < seconds:
            demand = SHOP.rate * SHOP.look_seconds * shops.day(t) * exp(noise)
            noise = keep * noise + sqrt(1.0 - keep * keep) * rng.gauss(0.0, shops.NOISE_SD)
            t += SHOP.look_seconds
            sample = shops.look(SHOP, (t, weight, demand, False), rng)
            yield json.dumps(
                {
                    "t": t,
                    "weight_ppm": weight,
                    "canary": _arm(sample.canary),
                    "baseline": _arm(sample.baseline),
                    "site": asdict(sample.site) if sample.site else None,
                    "step": weight != shown,
                }
            )
            shown = weight

    word = "Continue"
    for line in verdicts(SETTINGS, lines()):
        word = json.loads(line)["verdict"]
        if word in ("RollBack", "Drain"):
            return word
        if word == "Advance" and weight < SETTINGS.weights_ppm[-1]:
            weight = next_weight(SETTINGS, weight)
    return f"healthy at {weight / 10_000:g} %"


def _arm(counts: object) -> dict[str, float]:
    return {name: getattr(counts, name) for name in ("orders", "requests", "errors", "slow")}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=1_200.0)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    jobs = [(seed, given.seconds) for seed in range(given.runs)]
    with Pool(given.jobs) as pool:
        words = Counter(pool.imap_unordered(one_run, jobs, chunksize=20))
    false = words["RollBack"] + words["Drain"]
    figures = {"runs": given.runs, "seeds": f"0..{given.runs - 1}", "seconds": given.seconds, "false": false}
    print(json.dumps({**figures, "share": false / given.runs, "words": dict(sorted(words.items()))}))
    return int(false / given.runs > PROMISE)


if __name__ == "__main__":
    sys.exit(main())
