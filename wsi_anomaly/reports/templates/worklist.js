// Search, filter and sort the worklist. Without a script it is the same list, in order.
const body = document.querySelector('.worklist tbody');
const rows = [...body.rows];
const search = document.getElementById('search');
const shown = document.getElementById('shown');
let kind = 'all';

const texts = rows.map((row) => row.textContent.toLowerCase());
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  rows.forEach((row, i) => {
    const kept = (kind === 'all' || row.dataset.kinds.split(' ').includes(kind))
      && words.every((word) => texts[i].includes(word));
    row.hidden = !kept;
    count += kept;
  });
  shown.textContent = `${count} of ${rows.length}`;
}

function sort(column, button) {
  const down = button.getAttribute('aria-sort') !== 'descending';
  document.querySelectorAll('.worklist th').forEach((th) => th.removeAttribute('aria-sort'));
  button.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  const keyed = rows.map((row) => [value(row), row]);
  keyed.sort(([a], [b]) => {
    if ((a === '') !== (b === '')) return a === '' ? 1 : -1; // what is not known comes last
    const order = isNaN(a) || isNaN(b) ? b.localeCompare(a, undefined, {numeric: true}) : b - a;
    return down ? order : -order;
  });
  body.append(...keyed.map(([, row]) => row));
}

document.getElementById('tools').hidden = false;
search.addEventListener('input', filter);
document.querySelectorAll('[data-kind]').forEach((button) => button.addEventListener('click', () => {
  kind = button.dataset.kind;
  document.querySelectorAll('[data-kind]').forEach((other) => {
    other.setAttribute('aria-pressed', other === button);
  });
  filter();
}));
document.querySelectorAll('.worklist th[data-sort] button').forEach((button) => {
  const th = button.parentElement;
  button.addEventListener('click', () => sort(th.cellIndex, th));
});
filter();
