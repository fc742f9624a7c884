// The picture of patches: a click, space or enter drops a patch or brings it back; the arrow keys move the cursor.
const grid = element.querySelector('.dp-grid');
const drawn = element.querySelector('.dp-drawn');
const cursor = element.querySelector('.dp-cursor');
const live = element.querySelector('.dp-live');
let row = 0, column = 0;

const held = () => props.value || { svg: '', rows: 1, columns: 1, states: [], words: [] };

function place() {
  const { rows, columns } = held();
  row = Math.min(Math.max(row, 0), rows - 1);
  column = Math.min(Math.max(column, 0), columns - 1);
  cursor.style.left = `${(100 * column) / columns}%`;
  cursor.style.top = `${(100 * row) / rows}%`;
  cursor.style.width = `${100 / columns}%`;
  cursor.style.height = `${100 / rows}%`;
}

function tell() {
  const { columns, states, words } = held();
  live.textContent = `Row ${row + 1}, column ${column + 1}: ${words[states[row * columns + column]] || ''}`;
}

function draw() {
  drawn.innerHTML = held().svg;
  place();
  if (grid.contains(document.activeElement)) tell();
}

function choose() {
  const { rows, columns } = held();
  trigger('patch', { x: (column + 0.5) / columns, y: (row + 0.5) / rows });
}

grid.addEventListener('click', (event) => {
  const { rows, columns } = held();
  const box = drawn.getBoundingClientRect();
  column = Math.floor((columns * (event.clientX - box.left)) / box.width);
  row = Math.floor((rows * (event.clientY - box.top)) / box.height);
  place();
  choose();
});

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
grid.addEventListener('keydown', (event) => {
  if (event.key in MOVES) {
    row += MOVES[event.key][0];
    column += MOVES[event.key][1];
    place();
    tell();
  } else if (event.key === ' ' || event.key === 'Enter') {
    choose();
  } else {
    return;
  }
  event.preventDefault();
});
grid.addEventListener('focus', tell);

watch('value', draw);
draw();
