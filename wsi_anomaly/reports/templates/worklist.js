// Search, filter and sort the worklist. Without a script it is the same list, in order.
const table = document.querySelector('.worklist');
const search = document.getElementById('search');
const shown = document.getElementById('shown');
let kind = 'all';

// Slides of a case stand in one body, under its name; without cases all stand in one.
const cases = [...table.tBodies].map((body) => {
  const named = body.rows[0]?.className === 'case';
  const name = named ? body.rows[0].textContent : '';
  const slides = [...body.rows].slice(named ? 1 : 0).map((row) => ({
    row,
    kinds: row.dataset.kinds.split(' '),
    text: `${name} ${row.textContent}`.toLowerCase(),
  }));
  return {body, head: named ? [body.rows[0]] : [], slides};
});
const total = cases.reduce((sum, {slides}) => sum + slides.length, 0);

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const {body, slides} of cases) {
    let here = 0;
    for (const {row, kinds, text} of slides) {
      const kept = (kind === 'all' || kinds.includes(kind)) && words.every((word) => text.includes(word));
      if (row.hidden === kept) row.hidden = !kept;
      here += kept;
    }
    if (body.hidden === here > 0) body.hidden = here === 0;
    count += here;
  }
  shown.textContent = `${count} of ${total}`;
}

const collator = new Intl.Collator(undefined, {numeric: true});
function sort(column, button) {
  const down = button.getAttribute('aria-sort') !== 'descending';
  document.querySelectorAll('.worklist th').forEach((th) => th.removeAttribute('aria-sort'));
  button.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const value = ({row}) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  const order = ([a], [b]) => {
    if ((a === '') !== (b === '')) return a === '' ? 1 : -1; // what is not known comes last
    const falling = isNaN(a) || isNaN(b) ? collator.compare(b, a) : b - a;
    return down ? falling : -falling;
  };
  const sorted = cases.map((one) => {
    const slides = one.slides.map((slide) => [value(slide), slide.row]).sort(order);
        one.body.replaceChildren(); // to move thousands of rows one by one takes seconds
    one.body.append(...one.head, ...slides.map(([, row]) => row));
    return [slides[0]?.[0] ?? '', one.body];
  });
  if (cases.length > 1) table.append(...sorted.sort(order).map(([, body]) => body));
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
