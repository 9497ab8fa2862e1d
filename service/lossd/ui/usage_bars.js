// Bars of a figure by day, as SVG.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;
const LEAST = 1; // of a day with any use, so that it can be seen

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 */
function svgElement(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, String(value));
  return made;
}

/**
 * Draw a bar a day. The picture is stretched to the width that there is, so it has no text in it.
 * @param {readonly { day: string, value: number, text: string }[]} days
 * @param {string} label What the picture shows, in words.
 */
export function drawBars(days, label) {
  const most = Math.max(...days.map(({ value }) => value), Number.MIN_VALUE);
  const picture = svgElement("svg", {
    viewBox: `0 0 ${days.length} ${HEIGHT}`,
    preserveAspectRatio: "none",
    class: "usage-bars",
    role: "img",
    "aria-label": label,
  });
  days.forEach(({ day, value, text }, place) => {
    const height = value > 0 ? Math.max(LEAST, (HEIGHT * value) / most) : 0;
    const bar = svgElement("rect", { x: place + 0.1, width: 0.8, y: HEIGHT - height, height });
    const room = svgElement("rect", { x: place, width: 1, y: 0, height: HEIGHT, class: "usage-room" });
    const title = svgElement("title", {});
    title.textContent = `${day}: ${text}`;
    const group = svgElement("g", {});
    group.append(title, room, bar);
    picture.append(group);
  });
  return picture;
}

/**
 * A bar of how much of a limit is used.
 * @param {number} part From 0 to 1.
 */
export function drawMeter(part) {
  const used = Math.min(1, Math.max(0, part));
  const picture = svgElement("svg", {
    viewBox: "0 0 100 1",
    preserveAspectRatio: "none",
    class: used >= 0.9 ? "usage-meter usage-full" : "usage-meter",
    "aria-hidden": "true",
  });
  picture.append(svgElement("rect", { x: 0, y: 0, width: 100 * used, height: 1 }));
  return picture;
}
