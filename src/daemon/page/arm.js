// Where the arm's joints and its tip are: the same chain that the robot computes with.

const turn = ([x, y, z, w], [a, b, c]) => {
  const [u, v, t] = [2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)];
  return [a + w * u + y * t - z * v, b + w * v + z * u - x * t, c + w * t + x * v - y * u];
};

const times = ([x, y, z, w], [a, b, c, d]) => [
  w * a + x * d + y * c - z * b,
  w * b - x * c + y * d + z * a,
  w * c + x * b - y * a + z * d,
  w * d - x * a - y * b - z * c,
];

const into = (frame, { position, rotation }) => {
  const moved = turn(frame.rotation, position);
  return {
    position: frame.position.map((p, i) => p + moved[i]),
    rotation: times(frame.rotation, rotation),
  };
};

/** The base, each joint's origin, and the tip (m); none where the geometry is not known. */
export function polyline(geometry, positions) {
  if (!geometry?.tip) return [];
  let frame = { position: [0, 0, 0], rotation: [0, 0, 0, 1] };
  const points = [frame.position];
  geometry.joints.forEach(({ origin }, i) => {
    if (!origin) return;
    frame = into(frame, origin);
    points.push(frame.position);
    const half = (positions[i] ?? 0) / 2;
    frame = { ...frame, rotation: times(frame.rotation, [0, 0, Math.sin(half), Math.cos(half)]) };
  });
  points.push(into(frame, geometry.tip).position);
  return points;
}

/** How far the arm reaches at most (m). */
export function reach(geometry) {
  if (!geometry?.tip) return 0.4;
  const frames = geometry.joints.slice(1).map((joint) => joint.origin).filter(Boolean);
  return [...frames, geometry.tip].reduce((sum, { position }) => sum + Math.hypot(...position), 0);
}
