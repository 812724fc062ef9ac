"""PyOD's AutoEncoder with its defaults on a Parquet file with labels: what a user would reach for first.

In: a Parquet file whose feature columns are all numeric without nulls, and a label column that is 1 for anomalies. As
`half_split` of docs/reference/benchmark.md it trains on half of the normal rows, drawn by the seed, and tests on the other half and
all anomalies; the draw itself is NumPy's, so that the rows are not the same ones. Out: seconds of training (which in PyOD
ends with scoring the training rows), microseconds a scored record, ROC AUC and average precision.

    python pyod_autoencoder.py FILE [--label label] [--drop Time] [--seed 0] [--threads 2]
"""

import argparse
import time

import numpy as np
import pyarrow.parquet
import pyarrow.types
import torch
from pyod.models.auto_encoder import AutoEncoder
from sklearn.metrics import average_precision_score, roc_auc_score

# PyOD's default batch, in training and scoring, and one that suits scoring better.
SCORING_BATCHES = (32, 1024)


def read(path, label, drop):
    """Features [rows, F] as float32, and whether each row is an anomaly."""
    table = pyarrow.parquet.read_table(path)
    if label not in table.column_names:
        raise SystemExit(f"{path}: no column {label}")
    anomalous = table[label].to_numpy() == 1
    features = table.drop_columns([label, *(name for name in drop if name in table.column_names)])
    for column in features.schema:
        number = pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)
        if not number or features[column.name].null_count:
            raise SystemExit(f"{path}: column {column.name} ({column.type}): only numbers without nulls; see --drop")
    return np.stack([column.to_numpy() for column in features.columns], 1).astype(np.float32), anomalous


def half_split(anomalous, seed):
    """Training rows and test rows."""
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~anomalous))
    half = len(normal) // 2
    return normal[:half], np.concatenate([normal[half:], np.flatnonzero(anomalous)])


def timed(work):
    """What `work` returns, with its seconds of wall and of processor time."""
    begin = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - begin[0], time.process_time() - begin[1]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file")
    arguments.add_argument("--label", default="label")
    arguments.add_argument("--drop", action="append", default=[], help="a column that is no feature; may be repeated")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--threads", type=int, help="as PyTorch chooses unless given")
    options = arguments.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    x, anomalous = read(options.file, options.label, options.drop)
    train, test = half_split(anomalous, options.seed)
    print(f"{len(train)} training rows, {len(test)} test rows ({anomalous[test].sum()} anomalies), {x.shape[1]} features,", end=" ")
    print(f"{torch.get_num_threads()} threads\n")
    detector = AutoEncoder(random_state=options.seed, verbose=0)
    _, wall, processor = timed(lambda: detector.fit(x[train]))
    print("| what | wall | processor |\n|---|---|---|")
    print(f"| training, s | {wall:.1f} | {processor:.1f} |", flush=True)
    for size in SCORING_BATCHES:
        # The first call compiles what the second one runs.
        detector.decision_function(x[test[:64]], batch_size=size)
        scores, wall, processor = timed(lambda: detector.decision_function(x[test], batch_size=size))
        wall, processor = (seconds / len(test) * 1e6 for seconds in (wall, processor))
        print(f"| scoring, batch {size}, us a record | {wall:.1f} | {processor:.1f} |", flush=True)
    roc, precision = roc_auc_score(anomalous[test], scores), average_precision_score(anomalous[test], scores)
    print(f"\nROC AUC {roc:.4f}, average precision {precision:.4f}")


if __name__ == "__main__":
    main()
