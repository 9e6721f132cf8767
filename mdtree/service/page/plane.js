// The plane of temperature and load, as `mdtree.plots.phase_diagram` lays it out: 0 to 1 from cold to hot and from no
// error to chance.

/** The outlines of one region as a path in grid steps, halfway between the places inside and those outside. */
export function regionPath(regions, cause) {
  const inside = (row, column) => regions[row][column] === cause;
  const next = new Map();
  for (let row = 0; row + 1 < regions.length; row += 1) {
    for (let column = 0; column + 1 < regions[row].length; column += 1) {
      const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]];
      // the part of this cell that belongs to the region, as a polygon
      const points = corners.flatMap(([r, c], i) => {
        const [r2, c2] = corners[(i + 1) % 4];
        const own = inside(r, c) ? [[c, r]] : [];
        return inside(r, c) === inside(r2, c2) ? own : [...own, [(c + c2) / 2, (r + r2) / 2]];
      }).map((point) => point.join(" "));
      points.forEach((point, i) => addEdge(next, point, points[(i + 1) % points.length]));
    }
  }
  return loops(next);
}

/** Keep an edge of a cell, unless the neighbour has it as well, in the other direction: then it is inside. */
function addEdge(next, from, to) {
  if (next.get(to)?.delete(from)) return;
  if (!next.has(from)) next.set(from, new Set());
  next.get(from).add(to);
}

/** The edges that are left, end to end. */
function loops(next) {
  const parts = [];
  for (const [start, ends] of next) {
    while (ends.size) {
      const loop = [];
      for (let at = start; next.get(at)?.size;) {
        loop.push(at);
        const [to] = next.get(at);
        next.get(at).delete(to);
        at = to;
      }
      parts.push(`M${loop.join("L")}z`);
    }
  }
  return parts.join("");
}

/** The place of a region that is furthest from its edge and from what stands on the map already; null without one. */
export function innermost(regions, cause, occupied) {
  const others = regions.flatMap((line, row) => line.flatMap((value, column) => (value === cause ? [] : [[row, column]])));
  let best = null;
  let depth = 0;
  const rows = regions.length;
  const columns = regions[0].length;
  regions.forEach((line, row) => line.forEach((value, column) => {
    if (value !== cause) return;
    const edge = Math.min(row + 1, column + 1, rows - row, columns - column);
    let here = Math.min(edge, ...others.map(([r, c]) => Math.hypot(r - row, c - column)));
    if (occupied.some(([x, y]) => Math.abs(x - column) < 9 && Math.abs(y - row) < 4)) here *= 0.1;
    if (here > depth) { depth = here; best = [column, row]; }
  }));
  return best;
}

/** Where a growth of the weights and a train error over chance stand; `axes` is of the server's map. */
export function places(axes) {
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);
  return {
    x: (growth) => clip((growth - axes.x.from) / (axes.x.to - axes.x.from), 0, 1),
    y: (value) => clip(Math.asinh(Math.max(value, 0) / axes.y.small) / Math.asinh(1 / axes.y.small), 0, axes.y.highest),
  };
}
