// The page: shows what comes from the tracker, or a log against its video, and sends what the buttons ask for.

import { address, Connection } from "./connection.js";
import { Curves, MOST_CURVES } from "./curves.js";
import { canDraw, Heads } from "./head.js";
import { readFrame, readModel } from "./message.js";

const TEXT_MS = 100; // numbers that change faster cannot be read
const CURVES_MS = 66;
const NOTE_MS = 6000;
const FIRST_CURVES = ["jawOpen", "eyeBlinkLeft", "eyeBlinkRight"];
// command, its text, key, and what of the controls' state it switches
const COMMANDS = [
  ["centre", "centre", "c"],
  ["relearn", "recalibrate", "l"],
  ["freeze", "freeze", "f", (state) => state.frozen],
  ["pause", "pause sending", "p", (state) => !state.sending],
];

const query = new URLSearchParams(location.search);
const overlay = query.get("overlay") === "1";
const log = query.get("replay");
const find = (selector) => document.querySelector(selector);
const text = (id, value) => {
  const element = document.getElementById(id);
  if (element.textContent !== value) element.textContent = value;
};
const degrees = (values) => values.map((value) => (value === null ? "–" : `${value.toFixed(1)}°`)).join("  ");

class View {
  constructor() {
    this.canvas = find("#video canvas");
    this.context = this.canvas.getContext("2d");
    this.curves = overlay ? null : new Curves(find("#weights"), find("#angles"));
    this.heads = null;
    this.chosenFace = null;
    this.bars = [];
    this.names = [];
    this.textMs = this.curvesMs = 0;
    this.shownMs = [];
    this.frame = null;
  }

  /** What does not change in a run: names and counts. */
  describe({ blendshapes, numbers }) {
    this.numbers = numbers;
    if (overlay || String(blendshapes) === String(this.names)) return;
    this.names = blendshapes;
    this.makeBars();
    this.choose(FIRST_CURVES.filter((name) => blendshapes.includes(name)));
  }

  async loadModel() {
    const empty = find("#head .empty");
    if (!canDraw()) {
      [empty.textContent, empty.hidden] = ["this browser has no WebGL 2", false];
      return;
    }
    const response = await fetch(address("model"));
    const model = readModel(await response.arrayBuffer());
    if (model.triangles.length) this.heads = new Heads(find("#head canvas"), model, overlay);
    else [empty.textContent, empty.hidden] = ["this face model has no triangles", false];
    if (this.frame) this.showHeads();
  }

  makeBars() {
    this.bars = this.names.map((name) => {
      const bar = document.createElement("button");
      bar.className = "bar";
      bar.type = "button";
      bar.append(...["i", "span", "b"].map((tag) => document.createElement(tag)));
      bar.children[1].textContent = name;
      bar.onclick = () => this.toggle(name);
      return bar;
    });
    find("#bars").replaceChildren(...this.bars);
  }

  toggle(name) {
    const others = this.chosen.filter((one) => one !== name);
    this.choose(others.length < this.chosen.length ? others : [...this.chosen.slice(1 - MOST_CURVES), name]);
  }

  choose(chosen) {
    this.chosen = chosen;
    const colours = this.curves.choose(chosen, this.names);
    this.bars.forEach((bar, k) => {
      const name = this.names[k];
      bar.setAttribute("aria-pressed", String(name in colours));
      bar.style.setProperty("--curve", colours[name] ?? "transparent");
    });
  }

  /** Show a frame; resolves when the browser draws it, which for a page that nobody sees is when somebody does. */
  async show(buffer) {
    const frame = readFrame(buffer, this.numbers);
    const image = frame.jpeg && (await createImageBitmap(frame.jpeg));
    await new Promise(requestAnimationFrame);
    this.frame = frame;
    if (overlay) return this.showHeads();
    if (image) {
      if (this.canvas.width !== image.width || this.canvas.height !== image.height) {
        [this.canvas.width, this.canvas.height] = [image.width, image.height];
        find("#video").style.setProperty("--shape", `${image.width} / ${image.height}`);
      }
      this.context.drawImage(image, 0, 0);
      image.close();
      if (log) this.drawLandmarks(frame);
    }
    find("#video .empty").hidden = Boolean(frame.jpeg);
    this.showHeads();
    this.showFace();
  }

  /** Of a log, whose video shows no drawn faces. */
  drawLandmarks(frame) {
    const { context } = this;
    const scale = this.canvas.width / frame.width;
    context.fillStyle = "#3cff28";
    for (const { landmarks } of frame.faces) {
      const radius = Math.max(1.5, 0.004 * this.canvas.height);
      for (let k = 0; k < landmarks.length; k += 3) {
        context.beginPath();
        context.arc(scale * landmarks[k], scale * landmarks[k + 1], radius, 0, 2 * Math.PI);
        context.fill();
      }
    }
  }

  get face() {
    const { faces } = this.frame;
    return faces.find((face) => face.id === this.chosenFace) ?? faces[0];
  }

  showHeads() {
    const { width, height, faces } = this.frame;
    this.heads?.show(overlay ? faces : [this.face].filter(Boolean), width, height);
  }

  showFace() {
    const { face, frame } = this;
    const now = performance.now();
    if (face) {
      if (this.curvesOf !== face.id) this.curves.clear();
      this.curvesOf = face.id;
      this.curves.add(frame.time_s, face.blendshapes, face.pose_deg);
    }
    this.shownMs.push(now);
    while (this.shownMs[0] < now - 1000) this.shownMs.shift();
    this.bars.forEach((bar, k) => (bar.firstChild.style.transform = `scaleX(${face ? face.blendshapes[k] : 0})`));
    if (now - this.curvesMs >= CURVES_MS) {
      this.curvesMs = now;
      this.curves.draw();
    }
    if (now - this.textMs < TEXT_MS && !log) return;
    this.textMs = now;
    this.showText(face);
  }

  showText(face) {
    const { frame } = this;
    this.bars.forEach((bar, k) => (bar.lastChild.textContent = face ? face.blendshapes[k].toFixed(2) : ""));
    this.showFaces();
    const place = face?.translation_mm?.map((value) => (value === null ? "–" : (value / 10).toFixed(0)));
    text("state", face ? face.state + (face.detected ? ", detected" : "") : "–");
    text("score", face && face.score !== null ? face.score.toFixed(2) : "–");
    text("pose", face ? degrees(face.pose_deg) : "–");
    text("gaze", face ? degrees(face.gaze_deg) : "–");
    text("position", place ? `${place.join("  ")} cm` : "–");
    if (log) return;
    text("fps", `${frame.fps.toFixed(0)} fps`);
    text("shown", `${this.shownMs.length} fps`);
    const way = live.roundTripMs / 2;
    text("latency", frame.latency_ms === null ? "–" : `${(frame.latency_ms + way).toFixed(0)} ms`);
  }

  showFaces() {
    const group = find("#faces");
    const { faces } = this.frame;
    const shown = this.face?.id;
    const key = JSON.stringify([faces.map((face) => face.id), shown]);
    if (key === this.facesKey) return;
    this.facesKey = key;
    group.replaceChildren(...faces.map((face) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `face ${face.id}`;
      button.setAttribute("aria-pressed", String(face.id === shown));
      button.onclick = () => this.chooseFace(face.id);
      return button;
    }));
    if (!faces.length) group.innerHTML = '<span class="empty">no face</span>';
  }

  chooseFace(id) {
    this.chosenFace = id;
    this.showHeads();
    this.showText(this.face);
  }

  nextFace() {
    const { faces } = this.frame ?? { faces: [] };
    if (!faces.length) return;
    const k = faces.findIndex((face) => face.id === this.face.id);
    this.chooseFace(faces[(k + 1) % faces.length].id);
  }
}

function note(line) {
  text("note", line);
  clearTimeout(note.timer);
  note.timer = setTimeout(() => text("note", ""), NOTE_MS);
}

/** The tracker, while it runs. */
function startLive() {
  let known = "";
  let state = { recording: null, recordings: [], controls: null };
  const link = find("#link");
  const connection = new Connection(!overlay, {
    open() {
      link.classList.add("open");
      link.textContent = "live";
    },
    closed() {
      link.classList.remove("open");
      link.textContent = "connecting";
    },
    frame: (buffer) => view.show(buffer),
    text(message) {
      if (message.hello) hello(message.hello);
      if (message.state) showState(message.state);
      if (message.note) note(message.note);
    },
  });

  function hello(run) {
    const now = JSON.stringify([run.version, run.blendshapes, run.numbers]);
    if (known && known !== now) location.reload(); // another version, or other networks
    known = now;
    view.describe(run);
    text("source", run.source);
    document.title = `facet – ${run.source}`;
    document.body.classList.toggle("mirror", overlay ? query.get("mirror") === "1" : run.mirror);
    if (!view.heads) view.loadModel().catch(() => {}); // the connection that broke comes back with another greeting
    for (const button of document.querySelectorAll("button.command")) button.hidden = !run.controls;
  }

  function showState(now) {
    state = now;
    const record = find("#record");
    record.setAttribute("aria-pressed", String(state.recording !== null));
    record.textContent = state.recording === null ? "record" : "stop";
    find("#recordings").replaceChildren(...state.recordings.flatMap(links));
    for (const button of document.querySelectorAll("button.command")) {
      const { pressed } = button;
      if (pressed && state.controls) button.setAttribute("aria-pressed", String(pressed(state.controls)));
    }
  }

  function links({ name, files, trouble }) {
    if (trouble) note(trouble);
    const found = files.map((file) => [file, address(`recordings/${name}/${file}`), file]);
    if (files.includes("log.jsonl")) found.push(["replay", address("", { replay: `${name}/log.jsonl` })]);
    return found.map(([label, url, file]) => {
      const link = document.createElement("a");
      link.href = url;
      link.textContent = label;
      link.title = name;
      if (file) link.download = `${name}_${file}`;
      else link.target = "_blank";
      return link;
    });
  }

  const record = () => connection.send({ record: state.recording === null });
  find("#record").onclick = record;
  const keys = { r: record };
  for (const [command, label, key, pressed] of COMMANDS) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "command", textContent: label, title: `key ${key}`, hidden: true });
    button.pressed = pressed;
    button.onclick = keys[key] = () => connection.send({ command: [command] });
    find("#buttons").append(button);
  }
  listen(keys);
  return connection;
}

/** A log, frame by frame. */
async function startReplay() {
  const link = find("#link");
  find("#rates").hidden = find("#buttons").hidden = true;
  const path = log.split("/").map(encodeURIComponent).join("/");
  const response = await fetch(address(`replay/${path}`));
  if (!response.ok) {
    link.textContent = await response.text();
    return;
  }
  const { source, times_s: times, ...run } = await response.json();
  view.describe(run);
  view.loadModel();
  text("source", `${log} – ${source}`);
  document.title = `facet – ${log}`;
  link.classList.add("open");
  link.textContent = "log";
  const place = find("#place");
  const play = find("#play");
  place.max = times.length - 1;
  find("#scrub").hidden = false;

  let wanted = 0;
  let loading = false;
  let started = null; // clock minus the time of the log, while it plays
  const show = async () => {
    if (loading) return; // the newest wish is fulfilled when this one is
    loading = true;
    for (let shown = -1; shown !== wanted; ) {
      shown = wanted;
      const frame = await fetch(address(`replay/${path}/frames/${shown}`));
      if (frame.ok) await view.show(await frame.arrayBuffer());
      else note(await frame.text());
    }
    loading = false;
  };
  const go = (index) => {
    wanted = Math.min(Math.max(index, 0), times.length - 1);
    place.value = wanted;
    text("time", `${times[wanted].toFixed(2)} s, frame ${wanted} of ${times.length}`);
    show().catch(() => {
      loading = false;
      link.classList.remove("open");
      link.textContent = "the tracker has ended";
    });
  };
  const step = () => {
    if (started === null) return;
    const now = performance.now() / 1000 - started;
    let index = wanted;
    while (index + 1 < times.length && times[index + 1] <= now) index += 1;
    if (index !== wanted) go(index);
    if (index + 1 === times.length) playing(false);
    else requestAnimationFrame(step);
  };
  const playing = (on) => {
    if (on && wanted + 1 === times.length) go(0);
    started = on ? performance.now() / 1000 - times[wanted] : null;
    play.textContent = on ? "pause" : "play";
    if (on) requestAnimationFrame(step);
  };
  const to = (index) => {
    playing(false);
    go(index);
  };
  place.oninput = () => to(Number(place.value));
  play.onclick = () => playing(started === null);
  listen({ " ": play.onclick, ",": () => to(wanted - 1), ".": () => to(wanted + 1), Home: () => to(0), End: () => to(times.length - 1) });
  go(0);
}

/** Keys of the page; in a text or on a button they keep their usual meaning. */
function listen(keys) {
  keys.n = () => view.nextFace();
  keys.t = () => find("#follow").click();
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (!keys[key] || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === " " && target.closest("button, a") || ["Home", "End"].includes(key) && target.closest("input")) return;
    event.preventDefault();
    keys[key]();
  });
  find("#follow").onclick = () => {
    const { heads } = view;
    if (!heads) return;
    heads.follows = !heads.follows;
    find("#follow").setAttribute("aria-pressed", String(heads.follows));
    heads.draw();
  };
}

document.body.classList.toggle("overlay", overlay);
const view = new View();
const live = log ? null : startLive();
if (log) startReplay();
