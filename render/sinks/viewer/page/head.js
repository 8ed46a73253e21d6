// The dense mesh: the face model lies in a texture, its coefficients come with every frame, the vertex shader adds up.

import * as THREE from "./vendor/three.module.min.js";

const VERTEX = `
precision highp sampler2DArray;
uniform sampler2DArray basis;  // mm; a layer a coefficient, a texel a vertex
uniform float coefficients[COEFFICIENTS];
in vec3 albedo;
in float opacity;
out vec3 place;
out vec4 colour;

void main() {
    ivec2 texel = ivec2(gl_VertexID % COLUMNS, gl_VertexID / COLUMNS);
    vec3 moved = position;
    for (int k = 0; k < COEFFICIENTS; ++k) {
        float weight = coefficients[k];
        if (weight != 0.0) moved += weight * texelFetch(basis, ivec3(texel, k), 0).xyz;
    }
    vec4 seen = modelViewMatrix * vec4(moved, 1.0);
    place = seen.xyz;
    colour = vec4(albedo, opacity);
    gl_Position = projectionMatrix * seen;
}`;

const FRAGMENT = `
uniform float faded;  // whether the border of the mesh is transparent
in vec3 place;
in vec4 colour;
out vec4 painted;

void main() {
    vec3 normal = normalize(cross(dFdx(place), dFdy(place)));
    float lit = 0.35 + 0.65 * max(dot(normal, normalize(vec3(0.3, 0.5, 1.0))), 0.0);
    float alpha = mix(1.0, 0.85 * colour.a, faded);
    painted = vec4(colour.rgb * lit * alpha, alpha);
}`;

const TURN = Math.PI / 24; // a press of an arrow key
const FIELD_DEG = 24;
const DISTANCE_MM = 620;

function geometryOf(model) {
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(model.mean, 3));
  geometry.setAttribute("albedo", new THREE.BufferAttribute(model.albedo, 3));
  geometry.setAttribute("opacity", new THREE.BufferAttribute(model.opacity, 1));
  geometry.setIndex(new THREE.BufferAttribute(model.triangles, 1));
  geometry.computeBoundingBox();
  return geometry;
}

/** Heads on a canvas: all in their places over the image, or one by itself. */
export class Heads {
  constructor(canvas, model, overlay) {
    this.canvas = canvas;
    this.overlay = overlay;
    this.renderer = new THREE.WebGLRenderer({ canvas, alpha: true, antialias: true });
    this.renderer.outputColorSpace = THREE.LinearSRGBColorSpace; // colours are shown as they are
    this.scene = new THREE.Scene();
    this.camera = overlay
      ? new THREE.OrthographicCamera(0, 1, 1, 0, -1e4, 1e4)
      : new THREE.PerspectiveCamera(FIELD_DEG, 1, 50, 5000);
    this.geometry = geometryOf(model);
    this.centre = this.geometry.boundingBox.getCenter(new THREE.Vector3());
    const [layers, rows, columns] = model.basisShape;
    this.layers = Math.max(1, layers);
    this.columns = columns;
    const texels = layers ? model.basis : new Uint16Array(4 * columns);
    this.basis = new THREE.DataArrayTexture(texels, columns, layers ? rows : 1, this.layers);
    this.basis.type = THREE.HalfFloatType;
    this.basis.format = THREE.RGBAFormat;
    this.basis.needsUpdate = true;
    this.meshes = [];
    this.imageSize = [1, 1];
    this.orbit = new THREE.Quaternion();
    this.zoom = 1;
    this.follows = true;
    this.turn = new THREE.Quaternion();
    if (!overlay) this.listen();
    new ResizeObserver(() => this.fit()).observe(canvas);
    this.fit();
  }

  mesh(k) {
    if (!this.meshes[k]) {
      const material = new THREE.ShaderMaterial({
        glslVersion: THREE.GLSL3,
        vertexShader: VERTEX,
        fragmentShader: FRAGMENT,
        defines: { COEFFICIENTS: this.layers, COLUMNS: this.columns },
        uniforms: {
          basis: { value: this.basis },
          coefficients: { value: new Float32Array(this.layers) },
          faded: { value: this.overlay ? 1 : 0 },
        },
        transparent: this.overlay,
        premultipliedAlpha: true,
      });
      const mesh = new THREE.Mesh(this.geometry, material);
      mesh.frustumCulled = false;
      mesh.matrixAutoUpdate = false;
      this.scene.add(mesh);
      this.meshes[k] = mesh;
    }
    return this.meshes[k];
  }

  /** Show faces; of a head by itself the first. */
  show(faces, width, height) {
    this.imageSize = [width, height];
    const shown = this.overlay ? faces : faces.slice(0, 1);
    shown.forEach((face, k) => {
      const mesh = this.mesh(k);
      mesh.material.uniforms.coefficients.value.set(face.coefficients.subarray(0, this.layers));
      if (this.overlay) this.place(mesh, face.model_to_image);
      else this.turn.setFromEuler(rotationOf(face.pose_deg));
    });
    this.meshes.forEach((mesh, k) => (mesh.visible = k < shown.length));
    this.draw();
  }

  /** Model mm to image px with y up, which keeps triangles facing the viewer. */
  place(mesh, m) {
    const height = this.imageSize[1];
    mesh.matrix.set(m[0], m[1], m[2], m[3], -m[4], -m[5], -m[6], height - m[7], m[8], m[9], m[10], 0, 0, 0, 0, 1);
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const camera = this.camera;
    if (this.overlay) {
      // the whole image, in the middle, as large as it fits
      const [w, h] = this.imageSize;
      const scale = Math.min(width / w, height / h);
      const [x, y] = [(width / scale - w) / 2, (height / scale - h) / 2];
      Object.assign(camera, { left: -x, right: w + x, bottom: -y, top: h + y });
    } else {
      camera.aspect = width / height;
      camera.position.z = DISTANCE_MM / this.zoom / Math.min(1, camera.aspect);
      const turned = this.orbit.clone();
      if (this.follows) turned.multiply(this.turn);
      for (const mesh of this.meshes) {
        mesh.matrix.makeRotationFromQuaternion(turned);
        mesh.matrix.multiply(new THREE.Matrix4().makeTranslation(this.centre.clone().negate()));
      }
    }
    camera.updateProjectionMatrix();
    this.renderer.render(this.scene, camera);
  }

  rotate(x, y) {
    this.orbit.premultiply(new THREE.Quaternion().setFromEuler(new THREE.Euler(y, x, 0)));
    this.draw();
  }

  scale(by) {
    this.zoom = Math.min(Math.max(this.zoom * by, 0.4), 4);
    this.draw();
  }

  reset() {
    this.orbit.identity();
    this.zoom = 1;
    this.draw();
  }

  listen() {
    const { canvas } = this;
    const mirrored = () => (document.body.classList.contains("mirror") ? -1 : 1);
    canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
    canvas.onpointermove = (event) => {
      if (event.buttons) this.rotate((mirrored() * event.movementX) / 150, event.movementY / 150);
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.scale(Math.exp(-event.deltaY / 500));
    }, { passive: false });
    canvas.ondblclick = () => this.reset();
    const keys = {
      ArrowLeft: () => this.rotate(-TURN * mirrored(), 0),
      ArrowRight: () => this.rotate(TURN * mirrored(), 0),
      ArrowUp: () => this.rotate(0, -TURN),
      ArrowDown: () => this.rotate(0, TURN),
      "+": () => this.scale(1.15),
      "-": () => this.scale(1 / 1.15),
      0: () => this.reset(),
    };
    canvas.onkeydown = (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      keys[event.key]();
    };
  }
}

/** R = Rz(roll) Ry(-yaw) Rx(pitch): the convention of facet's angles. */
function rotationOf([yaw, pitch, roll]) {
  return new THREE.Euler(...[pitch, -yaw, roll].map(THREE.MathUtils.degToRad), "ZYX");
}

/** Whether this browser can draw the mesh. */
export function canDraw() {
  return Boolean(document.createElement("canvas").getContext("webgl2"));
}
