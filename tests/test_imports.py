"""The order of the rooms, lazy extras, no unpickling: properties of the source text, checked on the text."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "whence"

# A room imports only from rooms in rows above its own; rooms in one row know nothing of each other.
ROWS = [
    {"errors", "provenance"},
    {"attribution_files"},
    {"subsets", "attribution", "finding"},
    {"study"},
    {"training"},
    {"bank"},
    {"retraining"},
    {"methods"},
    {"evaluate"},
    {"applications"},
    {"report"},
    {"explorer"},
    {"cli"},
]
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
# The one upward edge: a Study is asked for its trainer, and training implements it.
ALLOWED = {("study", "training")}

EXTRAS = {
    "sklearn",
    "scipy",
    "PIL",
    "ray",
    "submitit",
    "transformers",
    "tokenizers",
    "datasets",
    "metaworld",
    "gymnasium",
    "mujoco",
    "lerobot",
    "fastapi",
    "uvicorn",
    "fsspec",
    "s3fs",
    "pandas",
    "matplotlib",
    "cleanlab",
}


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree, path, at_top=False):
    """(imported dotted name, line) of every import, or only of those that run when the module is imported."""
    package = ["whence", *path.relative_to(SOURCE).parts[:-1]]
    for node in run_at_import(tree) if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield start, node.lineno
            if start == "whence":
                for name in node.names:
                    yield f"whence.{name.name}", node.lineno


def run_at_import(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from run_at_import(child)


def test_rooms_import_only_from_rooms_below():
    wrong = []
    for path, tree in modules():
        room = room_of(path)
        if room in ("__init__", "__main__"):
            continue
        assert room in LEVEL, f"{room} is a new room: give it a place in ROWS"
        for name, line in imports(tree, path):
            if not name.startswith("whence."):
                continue
            other = name.split(".")[1]
            if other in (room, "__version__") or (room, other) in ALLOWED or room == "cli":
                continue
            if other not in LEVEL or LEVEL[other] >= LEVEL[room]:
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_extras_are_imported_where_they_are_used():
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {name}"
        for path, tree in modules()
        for name, line in imports(tree, path, at_top=True)
        if name.split(".")[0] in EXTRAS
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_unpickled():
    wrong = []
    for path, tree in modules():
        where = path.relative_to(SOURCE)
        for name, line in imports(tree, path):
            if name.split(".")[0] in ("cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
                wrong.append(f"{where}:{line} imports {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "pickle":
                wrong.append(f"{where}:{node.lineno} imports from pickle")
            if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLING:
                wrong.append(f"{where}:{node.lineno} uses {ast.unparse(node)}")
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if is_true(keywords.get("allow_pickle")):
                wrong.append(f"{where}:{node.lineno} allows pickle")
            if ast.unparse(node.func) == "torch.load" and not is_true(keywords.get("weights_only")):
                wrong.append(f"{where}:{node.lineno} calls torch.load without weights_only=True")
    assert not wrong, "\n".join(wrong)


UNPICKLING = {"pickle.load", "pickle.loads", "pickle.Unpickler"}


def is_true(node):
    return isinstance(node, ast.Constant) and node.value is True


def loaded_after(statement):
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(run.stdout.split("\n")[-2].split())


HEAVY = {
    "torch",
    "numpy",
    "xarray",
    "zarr",
    "pandas",
    "sklearn",
    "plotly",
    "matplotlib",
    "scipy",
    "PIL",
    "ray",
}


def test_import_whence_is_light():
    assert not HEAVY & loaded_after("import whence")


def test_the_command_line_starts_light():
    assert not HEAVY & loaded_after("import whence.cli")


def test_rooms_do_without_extras_and_pictures():
    # pandas comes with xarray
    rooms = "whence.study, whence.training, whence.bank, whence.retraining, whence.methods, whence.evaluate"
    assert not {"sklearn", "plotly", "matplotlib", "PIL", "ray"} & loaded_after(f"import {rooms}")


def test_every_public_name_is_there():
    import whence

    missing = [name for name in whence.__all__ if not hasattr(whence, name)]
    assert not missing
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = whence.no_such_name


def test_the_version_is_the_package_s():
    from importlib.metadata import version

    import whence

    assert whence.__version__ == version("whence")
