// The connection to the tracker: frames come in, confirmations and requests go out. It comes back by itself.

const RETRY_MS = [300, 1000, 2000, 3000];
const PING_MS = 1000;

/** An address of the server, with the token of this page. */
export function address(path, query = {}) {
  const url = new URL(path, location.href);
  const token = new URLSearchParams(location.search).get("token");
  for (const [name, value] of Object.entries({ ...query, ...(token && { token }) })) url.searchParams.set(name, value);
  return url;
}

export class Connection {
  /**
   * @param image whether images are wanted
   * @param on handlers: `text(message)`, `frame(buffer)`, whose promise resolves when it is shown, `open()`, `closed()`
   */
  constructor(image, on) {
    this.image = image;
    this.on = on;
    this.failures = 0;
    this.roundTripMs = 0;
    setInterval(() => this.send({ ping: performance.now() }), PING_MS);
    this.open();
  }

  open() {
    const url = address("live", { image: this.image ? 1 : 0 });
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(url));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.failures = 0;
      this.on.open();
    };
    socket.onmessage = async ({ data }) => {
      if (typeof data === "string") return this.read(JSON.parse(data));
      try {
        await this.on.frame(data);
      } finally {
        // asks for the next frame
        if (socket === this.socket) this.send({ shown: 1 });
      }
    };
    socket.onclose = () => {
      this.on.closed();
      setTimeout(() => this.open(), RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)]);
    };
  }

  read(message) {
    if ("pong" in message) this.roundTripMs = performance.now() - message.pong;
    else this.on.text(message);
  }

  send(request) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(request));
  }
}
