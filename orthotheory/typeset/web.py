"""The ledger of claims as one static page: statement, verdict, evidence, picture and the command that repeats it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..plotting import save_figure
from ..plotting.ledger import SIZE, draw_evidence
from ..storage import writable_folder, write_text

PAGE = "index.html"
ORDER = ("refuted", "holds_if", "holds", "reported")
MEANING = {
    "holds": "the check found it true",
    "holds_if": "true under the condition that stands with it",
    "refuted": "the check found it false",
    "reported": "a small machine can't test it; no verdict",
}
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
article { border-top: 1px solid #8886; padding: 1rem 0; }
h2 { font-size: 1.1rem; margin: 0; } h2 a { color: inherit; text-decoration: none; }
img { max-width: 100%; background: white; border-radius: 4px; }
table { border-collapse: collapse; font-size: .9rem; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
code { background: #8882; padding: .1rem .3rem; border-radius: 3px; }
.verdict { font-size: .85rem; padding: .1rem .5rem; border-radius: 1rem; margin-left: .5rem; color: white; }
.holds { background: #00694d; } .holds_if { background: #005a8f; } .refuted { background: #a34700; }
.reported { background: #666; }
"""


def write_page(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    size: str,
    *,
    bibliography: Path | None = None,
    figures: Mapping[str, Sequence[Path]] | None = None,
) -> Path:
    """Write index.html and a picture a claim into a folder.

    Parameters
    ----------
    rows : sequence of ledger rows
    size : "smoke" or "paper"
        The size at which they were computed; the command on the page repeats it.
    bibliography : path, optional
        A BibTeX file, for the titles behind the keys.
    figures : mapping, optional
        From a claim's label to the drawn paper figures (PNG) that show it; they are copied beside the page.
    """
    folder = writable_folder(folder)
    titles = _titles(bibliography)
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ORDER}
    articles = [_article(folder, row, size, titles, (figures or {}).get(row["label"], ())) for row in rows]
    meaning = "".join(
        f"<tr><td><span class='verdict {v}'>{_name(v)}</span></td><td>{counts[v]}</td><td>{MEANING[v]}</td></tr>"
        for v in ORDER
        if counts[v]
    )
    text = (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>orthotheory: claims judged</title><style>{STYLE}</style></head><body>"
        f"<h1>{len(rows)} claims of the literature, judged</h1>"
        "<p>Each is a sentence in our words, a check that could have come out otherwise, and a control: the same check "
        f"on a subject where the answer must be another one. Size: {html.escape(size)}.</p><table>{meaning}</table>"
        f"{''.join(articles)}</body></html>\n"
    )
    path = folder / PAGE
    write_text(path, text)
    return path


def _article(folder: Path, row: Mapping[str, Any], size: str, titles: Mapping[str, str], drawn: Sequence[Path]) -> str:
    label, control = row["label"], row["control"]
    save_figure(lambda fig: draw_evidence(row, fig), folder / label, SIZE)
    (folder / f"{label}.pdf").unlink(missing_ok=True)  # the page shows the bitmap
    pictures = [f"<img src='{label}.png' loading='lazy' alt='The numbers of {label}'>"]
    for path in drawn:
        (folder / path.name).write_bytes(path.read_bytes())
        pictures.append(f"<img src='{path.name}' loading='lazy' alt='Figure {path.stem} of the paper'>")
    evidence = {"measured": row["measured"], **row["evidence"], "control measured": control["measured"]}
    cells = "".join(f"<tr><td>{html.escape(k)}</td><td>{v:.6g}</td></tr>" for k, v in evidence.items())
    condition = f"<p>Condition: {html.escape(row['condition'])}.</p>" if row["condition"] else ""
    works = "" if control["fails"] else " <strong>It does not: the check is void.</strong>"
    return (
        f"<article id='{label}'><h2><a href='#{label}'>{label}</a>"
        f"<span class='verdict {row['verdict']}'>{_name(row['verdict'])}</span></h2>"
        f"<p>{html.escape(row['statement'])}</p>{condition}"
        f"<p>Source: {_source(row['source'], titles)}. The claim needs: {html.escape(row['expected'])}. "
        f"Control: {html.escape(control['subject'])}, which must come out otherwise and is {_name(control['verdict'])}."
        f"{works}</p>{''.join(pictures)}<table>{cells}</table>"
        f"<p><code>orthotheory claims {label} --size {html.escape(size)}</code></p></article>"
    )


def _name(verdict: str) -> str:
    return verdict.replace("_", " ")


def _source(source: str, titles: Mapping[str, str]) -> str:
    known = [titles[key] for key in re.findall(r"[a-z]+\d{4}[a-z0-9]*", source) if key in titles]
    return html.escape(source + (f" ({'; '.join(known)})" if known else ""))


def _titles(bibliography: Path | None) -> dict[str, str]:
    """Return the titles of a BibTeX file by key; braces, which only protect capitals, are dropped."""
    if bibliography is None or not bibliography.is_file():
        return {}
    entries = re.findall(
        r"@\w+\{([^,\s]+),.*?\btitle\s*=\s*[{\"](.+?)[}\"]\s*,?\s*\n", bibliography.read_text(), flags=re.S
    )
    return {key: re.sub(r"[{}]", "", title) for key, title in entries}
