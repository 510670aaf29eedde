# The graph of a sweep: every cell is one run of a chapter in a results folder of its own. workflow/sweep.py runs it
# with the grid's cells in `config`, and gathers the claims when all is done.

import re
import sys
from pathlib import Path

RESULTS = config["results"]
CELLS = config["cells"]


rule all:
    input:
        expand(f"{RESULTS}/{{cell}}/.done", cell=CELLS),


rule cell:
    input:
        notebook=lambda wildcards: f"notebooks/{CELLS[wildcards.cell]['chapter']}.ipynb",
        package=sorted(str(path) for path in Path("addlib").glob("*.py")),
    output:
        f"{RESULTS}/{{cell}}/.done",
    wildcard_constraints:
        cell="|".join(map(re.escape, CELLS)),
    params:
        chapter=lambda wildcards: CELLS[wildcards.cell]["chapter"],
        values=lambda wildcards: [
            text for name, value in CELLS[wildcards.cell]["parameters"].items() for text in ("-p", name, str(value))
        ],
    resources:
        gpu=1,
    shell:
        "OMP_NUM_THREADS=1 {sys.executable} workflow/execute.py {params.chapter} {params.values}"
        " --results {RESULTS}/{wildcards.cell} && touch {output}"
