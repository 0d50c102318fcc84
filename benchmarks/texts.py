"""Real English texts of mixed length that every Python carries: the docstrings of its standard library."""

import ast
import random
import sysconfig
from pathlib import Path


def mixed_texts(count: int = 1024) -> list[str]:
    """Half one-line summaries, half whole docstrings, shuffled; the same at every call on one Python version."""
    summaries: set[str] = set()
    wholes: set[str] = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                first, _, rest = text.partition("\n")
                if len(first) > 20:
                    summaries.add(first)
                if len(rest) > 200:
                    wholes.add(text)
    chance = random.Random(20261123)
    half = count // 2
    texts = chance.sample(sorted(summaries), half) + chance.sample(sorted(wholes), count - half)
    chance.shuffle(texts)
    return texts
