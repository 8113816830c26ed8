// Lines over time on a canvas, in the page's colours.

/** A canvas as large as it is shown, cleared; sizes in CSS pixels. */
export function sheet(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** A colour of the style sheet. */
export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The colour of the i-th joint. */
export const jointColour = (i) => colour(`joint-${i % 8}`);

const MARGIN = { left: 46, right: 8, top: 8, bottom: 22 };

/** A round step that cuts a range into about `parts`. */
function step(range, parts) {
  const rough = range / parts;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find((n) => n * power >= rough) ?? 10);
}

function range(lines, floor) {
  const values = lines.flatMap((line) => line.y).filter((y) => Number.isFinite(y));
  let [low, high] = [Math.min(...values, Infinity), Math.max(...values, -Infinity)];
  if (low > high) [low, high] = [0, 1];
  if (floor !== undefined) low = Math.min(floor, low);
  // Noise fills no plot; from the floor on, every height counts.
  const least = floor === undefined ? 1e-3 * Math.max(1, Math.abs(high)) : 1e-9;
  const pad = Math.max((high - low) * 0.06, least);
  return [low === floor ? low : low - pad, high + pad];
}

/** A number at a line of the grid. */
const mark = (y, rise) => {
  const places = Math.max(0, Math.ceil(-Math.log10(rise)));
  return places > 3 ? Number(y.toPrecision(2)).toExponential() : y.toFixed(places);
};

/** Lines `{x, y, colour, dashed}` from `from` to `to`; y begins at `floor` where one is given. */
export function plot(canvas, lines, { from, to, floor, unit = " s" }) {
  const { pen, width, height } = sheet(canvas);
  if (width < 80 || !(to > from)) return;
  const [low, high] = range(lines, floor);
  const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
  const px = (x) => MARGIN.left + ((x - from) / (to - from)) * (right - MARGIN.left);
  const py = (y) => bottom - ((y - low) / (high - low)) * (bottom - MARGIN.top);
  pen.font = "13px system-ui, sans-serif";
  pen.fillStyle = colour("dim");
  pen.strokeStyle = colour("grid");
  pen.lineWidth = 1;
  pen.beginPath();
  const rise = step(high - low, Math.max(4, (bottom - MARGIN.top) / 36));
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (let n = Math.ceil(low / rise); n * rise <= high; n++) {
    const y = n * rise;
    pen.moveTo(MARGIN.left, py(y));
    pen.lineTo(right, py(y));
    pen.fillText(n ? mark(y, rise) : "0", MARGIN.left - 6, py(y));
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  const run = step(to - from, Math.max(2, (right - MARGIN.left) / 90));
  for (let x = Math.ceil(from / run) * run; x <= to; x += run) {
    pen.moveTo(px(x), MARGIN.top);
    pen.lineTo(px(x), bottom);
    const text = `${Number(x.toFixed(3))}${unit}`;
    const half = pen.measureText(text).width / 2;
    pen.fillText(text, Math.min(px(x), width - half), bottom + 5);
  }
  pen.stroke();
  for (const line of lines) {
    pen.strokeStyle = line.colour;
    pen.lineWidth = line.dashed ? 1.5 : 2;
    pen.setLineDash(line.dashed ? [5, 4] : []);
    pen.beginPath();
    let down = false;
    line.x.forEach((x, i) => {
      const y = line.y[i];
      // A gap stays a gap.
      if (!Number.isFinite(y)) down = false;
      else if (x >= from) {
        if (down) pen.lineTo(px(x), py(y));
        else pen.moveTo(px(x), py(y));
        down = true;
      }
    });
    pen.stroke();
  }
  pen.setLineDash([]);
}
