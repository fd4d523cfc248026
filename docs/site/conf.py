"""How `make site` makes a site of the pages in docs/: they are Markdown, as they are read in the repository."""

project = "tcp_proxy"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
html_theme = "furo"
html_title = "tcp_proxy"
html_show_sphinx = html_show_copyright = False
myst_heading_anchors = 4  # as links to headings are written: those of GitHub
nitpicky = True
