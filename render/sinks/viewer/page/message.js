// Reads the binary messages that the server sends: a JSON header, float32 numbers of each face, a JPEG.

function headerOf(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  return [JSON.parse(text), 4 + length];
}

/** A frame: its header with `faces`, each with its numbers by name; `jpeg` is null where there is no image. */
export function readFrame(buffer, numbers) {
  const [frame, start] = headerOf(buffer);
  let place = start;
  for (const face of frame.faces) {
    for (const [name, count] of Object.entries(numbers)) {
      face[name] = new Float32Array(buffer, place, count);
      place += 4 * count;
    }
  }
  frame.jpeg = place < buffer.byteLength ? new Blob([new Uint8Array(buffer, place)], { type: "image/jpeg" }) : null;
  return frame;
}

const ARRAYS = { mean: Float32Array, albedo: Float32Array, opacity: Float32Array, triangles: Uint32Array, basis: Uint16Array };

/** The face model: its arrays by name, and the shape of `basis`. */
export function readModel(buffer) {
  let [shapes, place] = headerOf(buffer);
  const model = { basisShape: shapes.basis };
  for (const [name, Type] of Object.entries(ARRAYS)) {
    const count = shapes[name].reduce((a, b) => a * b, 1);
    model[name] = new Type(buffer, place, count);
    place += count * Type.BYTES_PER_ELEMENT;
  }
  return model;
}
