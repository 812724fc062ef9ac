"""ONNX Runtime on a maskwatch bundle: what scoring alone costs there.

In: a bundle that `onnx_bundle` can express. Out: a table of microseconds a record by batch size, one thread. The graph's
result is checked against a NumPy forward in double precision before anything is timed, and a difference ends the program.

    python onnx_scoring.py BUNDLE [--batches 1,32,1024] [--seconds 2]
"""

import argparse
import statistics
import time

from onnx_bundle import Bundle, made_up, session


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("bundle")
    arguments.add_argument("--batches", default="1,32,1024")
    arguments.add_argument("--seconds", type=float, default=2.0, help="a batch size, at least three runs")
    options = arguments.parse_args()
    bundle = Bundle(options.bundle)
    scorer, worst = session(bundle, threads=1)
    batches = [int(rows) for rows in options.batches.split(",")]
    z, q = (made_up(max(batches), len(bundle.fields), seed=seed) for seed in (1, 2))
    feed = lambda rows: bundle.encoded(z[:rows], q[:rows])
    print(f"{len(bundle.views)} views, {len(bundle.fields)} fields; worst relative difference {worst:.1e}\n")
    print("| batch | us of processor a record, median | runs |\n|---|---|---|")
    for rows in batches:
        inputs, times = feed(rows), []
        scorer.run(None, inputs)
        end = time.monotonic() + options.seconds
        while len(times) < 3 or time.monotonic() < end:
            begin = time.process_time()
            scorer.run(None, inputs)
            times.append((time.process_time() - begin) / rows * 1e6)
        print(f"| {rows} | {statistics.median(times):.1f} | {len(times)} |")


if __name__ == "__main__":
    main()
