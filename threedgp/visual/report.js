"use strict";

// A click shows an image at full size.
const dialog = document.querySelector("dialog");
for (const image of document.querySelectorAll("figure img")) {
  const button = document.createElement("button");
  button.title = "Show at full size";
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const large = image.cloneNode();
    dialog.replaceChildren(large);
    large.style.width = Math.max(image.naturalWidth, 0.94 * innerWidth) + "px";
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());

// Meshes, drawn with WebGL: drag or arrow keys turn them. Scenes are right-handed with y up; the camera looks at the
// origin from yaw and pitch as in docs/conventions.md.
const VERTEX_SHADER = `#version 300 es
  in vec3 position; in vec3 color;
  uniform vec2 angles;  // yaw and pitch of the camera
  uniform float size;  // largest coordinate of the mesh
  out vec3 albedo; out vec3 place;
  void main() {
    float cy = cos(angles.x), sy = sin(angles.x), cp = cos(angles.y), sp = sin(angles.y);
    vec3 toCamera = vec3(-sy * sp, cp, cy * sp), right = vec3(cy, 0.0, sy), up = cross(toCamera, right);
    place = vec3(dot(right, position), dot(up, position), dot(toCamera, position)) * 0.5 / size;
    albedo = color;
    float distance = 2.0 - place.z;
    gl_Position = vec4(place.xy * 2.8, (distance - 2.0) * distance, distance);
  }`;
const FRAGMENT_SHADER = `#version 300 es
  precision highp float;
  in vec3 albedo; in vec3 place; out vec4 result;
  void main() {
    vec3 normal = normalize(cross(dFdx(place), dFdy(place)));
    vec3 encoded = mix(12.92 * albedo, 1.055 * pow(albedo, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, albedo));
    result = vec4(encoded * (0.7 + 0.3 * abs(normal.z)), 1.0);
  }`;

async function showMesh(canvas) {
  const file = await (await fetch(document.getElementById(canvas.dataset.mesh).href)).arrayBuffer();
  const length = new DataView(file).getUint32(12, true);  // of the JSON chunk, behind which the binary one begins
  const gltf = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 20, length)));
  const { primitives: [primitive], extras = {} } = gltf.meshes[0];
  const read = (index) => {
    const accessor = gltf.accessors[index], { byteOffset = 0 } = gltf.bufferViews[accessor.bufferView];
    const Kind = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array }[accessor.componentType];
    const width = { SCALAR: 1, VEC3: 3, VEC4: 4 }[accessor.type];
    return new Kind(file, 28 + length + byteOffset + (accessor.byteOffset || 0), accessor.count * width);
  };

  const gl = canvas.getContext("webgl2", { antialias: true });
  if (!gl) throw new Error("this browser has no WebGL 2");
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const attributes = [["position", "POSITION", 3, gl.FLOAT], ["color", "COLOR_0", 4, gl.UNSIGNED_BYTE]];
  for (const [name, attribute, width, kind] of attributes) {
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, read(primitive.attributes[attribute]), gl.STATIC_DRAW);
    const place = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, width, kind, kind !== gl.FLOAT, 0, 0);
  }
  const indices = Uint32Array.from(read(primitive.indices));
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
  gl.enable(gl.DEPTH_TEST);

  const { min, max } = gltf.accessors[primitive.attributes.POSITION];
  gl.uniform1f(gl.getUniformLocation(program, "size"), Math.max(...min.map(Math.abs), ...max.map(Math.abs)));
  let { yaw = 0, pitch = Math.PI / 2 } = extras;
  const draw = () => {
    canvas.width = canvas.height = Math.round(canvas.clientWidth * devicePixelRatio) || 1;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform2f(gl.getUniformLocation(program, "angles"), yaw, pitch);
    gl.drawElements(gl.TRIANGLES, indices.length, gl.UNSIGNED_INT, 0);
  };
  const turn = (right, down) => {
    yaw += 0.01 * right;  // what is in front follows the pointer
    pitch = Math.min(Math.max(pitch - 0.01 * down, 0.02), Math.PI - 0.02);
    draw();
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => event.buttons && turn(event.movementX, event.movementY));
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10] }[event.key];
    if (!steps) return;
    event.preventDefault();
    turn(...steps);
  });
  new ResizeObserver(draw).observe(canvas);
}

for (const canvas of document.querySelectorAll("canvas[data-mesh]")) {
  showMesh(canvas).catch((error) => canvas.replaceWith(`The mesh cannot be shown here: ${error.message}.`));
}
