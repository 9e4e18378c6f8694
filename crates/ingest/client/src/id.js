let last = 0;
let count = 0;

/**
 * A UUIDv7. Later ones of a page sort after earlier ones, even within a millisecond or when the clock is
 * set back.
 * @param {number} [now] milliseconds since 1970
 * @returns {string}
 */
export function uuid7(now = Date.now()) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  if (now > last) {
    last = now;
    count = ((bytes[6] & 7) << 8) | bytes[7];
  } else if (++count > 0xfff) {
    last += 1;
    count = 0;
  }
  for (let i = 0; i < 6; i++) bytes[i] = Math.floor(last / 2 ** (8 * (5 - i)));
  bytes[6] = 0x70 | (count >> 8);
  bytes[7] = count;
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
