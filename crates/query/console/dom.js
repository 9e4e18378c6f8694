// Elements. Text is only ever set as text.

/** An element: properties by name (`class`, `onclick`, attributes), then children: nodes, texts, lists. */
export function h(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "open") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  add(node, children);
  return node;
}

/** Appends children: nodes, texts, numbers, lists of them; nothing for null and false. */
export function add(node, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Puts these children in place of those there are. */
export function fill(node, ...children) {
  node.replaceChildren();
  return add(node, ...children);
}

/** Sets a text where it is another one: nothing flickers, no selection is lost. */
export function say(node, text) {
  text = String(text);
  if (node.textContent !== text) node.textContent = text;
}
