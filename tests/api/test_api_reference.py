"""The reference page is the models' own text, and has a row for every field that a person may write."""

from checkout import ROOT
from crd_reference import reference


def test_the_page_in_the_docs_is_the_generated_one() -> None:
    page = ROOT / "docs/reference/crd.md"
    assert page.read_text() == reference(), "write it anew with `make docs`"


def test_the_page_names_fields_forms_defaults_and_rules() -> None:
    page = reference()
    assert "| `spec.steps[].weight` | share | required |" in page
    assert '| `spec.prepareWithin` | duration | `"10m"` |' in page
    assert "a run's plan is pinned at its start" in page
    assert "## SafetyPolicy" in page
