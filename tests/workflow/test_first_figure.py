"""The first page's figure: chapter 08's form, or a note where that chapter has not run."""

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workflow.first_figure import NOT_YET, lattice_figure


def with_outputs(*drawn):
    outputs = [new_output("display_data", {"text/html": text}) for text in drawn]
    return new_notebook(cells=[new_markdown_cell("# 08"), new_code_cell(outputs=outputs)])


def test_the_form_of_the_run_stands_on_the_first_page():
    form = '<div class="addlib-carry" data-program="{&quot;digits&quot;:5}">Only on the site.</div>'
    page = lattice_figure(with_outputs("<table></table>", form))
    assert form in page.splitlines()
    assert page.count("```") == 2


def test_without_the_form_a_note_says_when_it_comes():
    assert lattice_figure(with_outputs("<table></table>")) == NOT_YET
    assert lattice_figure(new_notebook(cells=[new_markdown_cell("# 08")])) == NOT_YET
