// Shows the operations of the API from the gateway's own description.

const list = document.getElementById('operations');
const filter = document.getElementById('filter');

function element(name, text, className) {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function table(title, rows) {
  const part = document.createDocumentFragment();
  if (!rows || rows.length === 0) return part;
  part.append(element('h3', title));
  const grid = element('table');
  for (const row of rows) {
    const line = element('tr');
    const name = element('th');
    name.append(element('code', row.name));
    line.append(name, element('td', [row.in, row.type].filter(Boolean).join(', ')), element('td', row.description));
    grid.append(line);
  }
  part.append(grid);
  return part;
}

function show(operation) {
  const box = element('details');
  const head = element('summary');
  head.append(element('span', operation.method, 'method'), element('span', operation.path, 'path'), element('span', operation.summary, 'about'));
  box.append(head);
  if (operation.description) box.append(element('p', operation.description));
  box.append(table('Parameters', operation.parameters), table('Body', operation.body), table('Answer', operation.answer));
  box.dataset.text = `${operation.method} ${operation.path} ${operation.summary ?? ''}`.toLowerCase();
  return box;
}

async function load() {
  const response = await fetch('/docs/operations.json');
  if (!response.ok) throw new Error(`status ${response.status}`);
  list.replaceChildren(...(await response.json()).map(show));
}

filter.addEventListener('input', () => {
  const wanted = filter.value.trim().toLowerCase();
  for (const box of list.children) box.hidden = !(box.dataset.text ?? '').includes(wanted);
});

load().catch((error) => list.replaceChildren(element('p', `The description could not be loaded: ${error.message}.`)));
