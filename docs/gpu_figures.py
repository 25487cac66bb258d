"""What the benchmarks measured on a GPU, for docs/how-to/on-a-gpu.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harmonic_figures import replaced


def page(text, training, methods):
    """Models a second, seconds a ResNet-9, and methods against the processors of the same machine."""
    races = [row for row in training["rows"] if "way" in row]
    nets = [row for row in training["rows"] if "seconds_per_model" in row]
    gpu, cores = training["settings"]["gpu"], training["settings"]["cores"]
    words = [
        f"{gpu}, {cores} cores beside it. Models of MNIST a second, against a plain DataLoader loop on the "
        "same GPU, in turns:",
        "",
        "| network | way | models a second | times as fast | mean accuracy |",
        "|---|---|---:|---:|---:|",
    ]
    words += [
        f"| {row['task'].removesuffix(', MNIST')} | {row['way']} | {row['models_per_second']:.3g} | "
        f"{row['ratio']:.3g}{_range(row)} | {row['accuracy']:.3f} |"
        for row in races
    ]
    words += [
        f"\n{row['task']}: {row['seconds_per_model']:.1f} seconds a model ({row['fastest']:.1f} to "
        f"{row['slowest']:.1f}; the published figure is about 17 on an A100), {row['epochs']} epochs in "
        f"{row['precision']}, mean test accuracy {row['accuracy']:.1%} of {row['models']} models; "
        f"{row['memory_gib']:.1f} GiB."
        for row in nets
    ]
    words += [
        "",
        "Methods on the GPU against the cores of the same machine, whole calls:",
        "",
        "| what | targets | seconds, cores | seconds, GPU | times as fast |",
        "|---|---:|---:|---:|---:|",
    ]
    words += [
        f"| {row['what']} | {row['targets']:,} | {row['seconds_cpu']:.2f} | {row['seconds_gpu']:.2f} | "
        f"{row['ratio']:.1f}{_range(row)} |"
        for row in methods["rows"]
        if "seconds_cpu" in row
    ]
    resnet = {row["what"]: row for row in methods["rows"] if "examples_per_second" in row}
    words += [
        "",
        "TRAK with 2,048 dimensions on ResNet-9, examples a second (traker with its CUDA projector):",
        "",
        "| who | examples, targets | examples a second |",
        "|---|---:|---:|",
    ]
    words += [
        f"| {name.removeprefix('TRAK, ResNet-9: ')} | {row['n']:,}, {row['targets']} | "
        f"{row['examples_per_second']:,.0f} |"
        for name, row in resnet.items()
    ]
    words += [
        "",
        "Repeat it with `python -m benchmarks gpu_retraining` and `python -m benchmarks gpu_methods` "
        "(4 minutes and 1 minute on that machine).",
    ]
    return replaced(text, "gpu", "\n".join(words))


def _range(row):
    low, high = row.get("ratio_low"), row.get("ratio_high")
    return "" if low is None or low == high else f" ({low:.3g} to {high:.3g})"
