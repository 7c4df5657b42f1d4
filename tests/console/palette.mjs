// Makes a picture of a page small: the 256 colours that it has most of, and each other one as the nearest of these.
import zlib from 'node:zlib';

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);

/** The rows of a PNG as Chromium writes it (8 bits of red, green and blue, with or without alpha), as red, green and blue. */
function pixels(png) {
  let at = SIGNATURE.length;
  let header;
  const data = [];
  while (at < png.length) {
    const length = png.readUInt32BE(at);
    const kind = png.toString('latin1', at + 4, at + 8);
    const content = png.subarray(at + 8, at + 8 + length);
    if (kind === 'IHDR') header = content;
    if (kind === 'IDAT') data.push(content);
    at += 12 + length;
  }
  const [width, height, each] = [header.readUInt32BE(0), header.readUInt32BE(4), header[9] === 6 ? 4 : 3];
  const raw = zlib.inflateSync(Buffer.concat(data));
  const out = new Uint32Array(width * height);
  let above = new Uint8Array(width * each);
  for (let y = 0; y < height; y += 1) {
    const start = y * (width * each + 1);
    const row = Uint8Array.from(raw.subarray(start + 1, start + 1 + width * each));
    for (let x = 0; x < row.length; x += 1) {
      const left = x >= each ? row[x - each] : 0;
      const corner = x >= each ? above[x - each] : 0;
      const up = above[x];
      const guess = left + up - corner;
      const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
      const paeth = a <= b && a <= c ? left : b <= c ? up : corner;
      row[x] += [0, left, up, (left + up) >> 1, paeth][raw[start]];
    }
    for (let x = 0; x < width; x += 1) out[y * width + x] = row[x * each] << 16 | row[x * each + 1] << 8 | row[x * each + 2];
    above = row;
  }
  return {width, height, out};
}

function chunk(kind, content) {
  const body = Buffer.concat([Buffer.from(kind, 'latin1'), content]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(zlib.crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** The picture with at most 256 colours. */
export function small(png) {
  const {width, height, out} = pixels(png);
  const counts = new Map();
  for (const colour of out) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const palette = [...counts.entries()].sort((one, other) => other[1] - one[1]).slice(0, 256).map(([colour]) => colour);
  const nearest = new Map();
  for (const colour of counts.keys()) {
    const far = other => ((colour >> 16) - (other >> 16)) ** 2 + ((colour >> 8 & 255) - (other >> 8 & 255)) ** 2 + ((colour & 255) - (other & 255)) ** 2;
    let best = 0;
    palette.forEach((other, place) => { if (far(other) < far(palette[best])) best = place; });
    nearest.set(colour, best);
  }
  const raw = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) raw[y * (width + 1) + 1 + x] = nearest.get(out[y * width + x]);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap(colour => [colour >> 16, colour >> 8 & 255, colour & 255]));
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('PLTE', colours), chunk('IDAT', zlib.deflateSync(raw, {level: 9})), chunk('IEND', Buffer.alloc(0))]);
}
