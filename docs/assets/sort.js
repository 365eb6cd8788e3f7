// A click on a heading sorts a table of at least eight rows: numbers as numbers, upwards and then downwards.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
    const body = table.tBodies[0]
    if (!body || body.rows.length < 8) continue
    for (const heading of table.tHead.rows[0].cells) {
      if (!heading.textContent.trim()) continue
      heading.ariaSort = "none"
      heading.tabIndex = 0
      heading.addEventListener("click", () => sort(body, heading))
      heading.addEventListener("keydown", (event) => event.key === "Enter" && sort(body, heading))
    }
  }
})

function sort(body, heading) {
  const order = heading.ariaSort === "ascending" ? "descending" : "ascending"
  for (const other of heading.parentElement.cells) if (other.ariaSort) other.ariaSort = "none"
  heading.ariaSort = order
  const sign = order === "ascending" ? 1 : -1
  const text = (row) => row.cells[heading.cellIndex].textContent.trim()
  const missing = (x) => x === "" || x === "–"
  body.append(
    ...[...body.rows].sort((one, other) => {
      const [a, b] = [text(one), text(other)]
      if (missing(a) || missing(b)) return missing(a) - missing(b) // what has no number is last, either way
      const [x, y] = [parseFloat(a), parseFloat(b)]
      return sign * (isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y)
    }),
  )
}
