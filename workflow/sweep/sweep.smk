# The graph of a sweep: every cell is one run of a chapter in a results folder of its own. workflow/sweep/grid.py runs
# it with the grid's cells in `config`, and gathers the claims when all is done.

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.current_basedir).parents[1]))

from workflow.chapters import chapters
from workflow.dependencies import chapter_files, claims_digest

RESULTS = config["results"]
CELLS = config["cells"]
CHAPTERS = chapters()
OWN_RECORD = f"addlib/data/{config['record']}.json"  # what comes of the sweep does not make it run again


def chapter_of(wildcards):
    return CHAPTERS[CELLS[wildcards.cell]["chapter"]]


def parameters_of(wildcards):
    parameters = CELLS[wildcards.cell]["parameters"]
    return [text for name, value in parameters.items() for text in ("-p", name, str(value))]


rule all:
    input:
        expand(f"{RESULTS}/{{cell}}/.done", cell=CELLS),


rule cell:
    input:
        notebook=lambda wildcards: f"notebooks/{chapter_of(wildcards).name}.ipynb",
        code=lambda wildcards: [file for file in chapter_files(chapter_of(wildcards)) if file != OWN_RECORD],
    output:
        f"{RESULTS}/{{cell}}/.done",
    wildcard_constraints:
        cell="|".join(map(re.escape, CELLS)),
    params:
        chapter=lambda wildcards: chapter_of(wildcards).name,
        values=parameters_of,
        claims=lambda wildcards: claims_digest(chapter_of(wildcards)),
    resources:
        gpu_gib=lambda wildcards: chapter_of(wildcards).gpu_gib,
    shell:
        "OMP_NUM_THREADS=1 {sys.executable} -m workflow.execute {params.chapter} {params.values}"
        " --results {RESULTS}/{wildcards.cell} && touch {output}"
