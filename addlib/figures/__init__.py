"""Arrays in, pictures out: plotly figures, drawings, attention views, and how a page shows them."""
