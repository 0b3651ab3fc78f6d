// On a narrow screen the cells of a row are stacked (style.css). From three columns on, each gets the heading of its column.
for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
  const headings = [...table.querySelectorAll("th")].map((heading) => `${heading.textContent.trim()}: `);
  if (headings.length < 3) continue;
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, column) => { cell.dataset.heading = headings[column]; });
  }
}
