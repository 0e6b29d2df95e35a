// Draws the scenes of a page: points and lines, turned by the mouse. Nothing is loaded.
(function () {
  "use strict";

  const FIELD_OF_VIEW = 55 * Math.PI / 180, NEAREST = 0.3, FURTHEST = 2000;
  const VERTEX = `
    attribute vec3 place; attribute vec4 color; uniform mat4 screen; uniform float size; varying vec3 shade;
    void main() {
      shade = color.rgb;
      gl_Position = color.a < 0.5 ? vec4(2.0, 2.0, 2.0, 1.0) : screen * vec4(place, 1.0);
      gl_PointSize = clamp(size / gl_Position.w, 1.6, 24.0);
    }`;
  const FRAGMENT = `
    precision mediump float; uniform float disk; varying vec3 shade;
    void main() {
      if (disk > 0.5 && length(gl_PointCoord - 0.5) > 0.5) discard;
      gl_FragColor = vec4(shade, 1.0);
    }`;

  function bytes(node) {
    const text = atob(node.textContent.trim()), found = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at++) found[at] = text.charCodeAt(at);
    return found;
  }

  const numbers = (text) => text.split(",").map(Number);
  const minus = (a, b) => a.map((value, axis) => value - b[axis]);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

  // Seen from about a target, upright: azimuth, elevation and distance.
  class Eye {
    constructor(position, target) {
      this.usual = [position, target];
      this.restore();
    }

    restore() {
      const [position, target] = this.usual, away = minus(position, target);
      this.target = target.slice();
      this.distance = Math.max(Math.hypot(...away), 0.5);
      this.azimuth = Math.atan2(away[1], away[0]);
      this.elevation = Math.asin(away[2] / this.distance);
    }

    axes() {
      const flat = Math.cos(this.elevation);
      const back = [flat * Math.cos(this.azimuth), flat * Math.sin(this.azimuth), Math.sin(this.elevation)];
      const right = [-Math.sin(this.azimuth), Math.cos(this.azimuth), 0];
      return [right, cross(back, right), back];
    }

    turn(across, down) {
      this.azimuth -= across * 0.006;
      this.elevation = Math.min(1.55, Math.max(-1.55, this.elevation + down * 0.006));
    }

    move(across, down, height) {
      const step = 2 * this.distance * Math.tan(FIELD_OF_VIEW / 2) / height, [right, up] = this.axes();
      this.target = this.target.map((value, axis) => value + step * (down * up[axis] - across * right[axis]));
    }

    approach(factor) {
      this.distance = Math.min(600, Math.max(0.5, this.distance * factor));
    }

    screen(aspect) {  // 4 × 4 by columns, from metres to the screen
      const [right, up, back] = this.axes(), far = 1 / (NEAREST - FURTHEST);
      const position = this.target.map((value, axis) => value + this.distance * back[axis]);
      const high = 1 / Math.tan(FIELD_OF_VIEW / 2), wide = high / aspect, found = [];
      for (let axis = 0; axis < 3; axis++) {
        found.push(wide * right[axis], high * up[axis], (FURTHEST + NEAREST) * far * back[axis], -back[axis]);
      }
      const at = [right, up, back].map((axis) => -dot(axis, position));
      const depth = (FURTHEST + NEAREST) * far * at[2] + 2 * FURTHEST * NEAREST * far;
      return new Float32Array([...found, wide * at[0], high * at[1], depth, -at[2]]);
    }
  }

  class Scene {
    constructor(root) {
      this.root = root;
      this.canvas = root.querySelector("canvas");
      this.gl = this.canvas.getContext("webgl", {antialias: true, preserveDrawingBuffer: true});
      if (!this.gl) {
        root.querySelector(".said").textContent = "This browser has no WebGL, by which the scene would be drawn.";
        return;
      }
      this.eye = new Eye(numbers(root.dataset.eye), numbers(root.dataset.target));
      this.program();
      this.points = this.buffer(bytes(root.querySelector(".places")));
      this.lines = this.buffer(bytes(root.querySelector(".lines")));
      this.strokes = this.buffer(bytes(root.querySelector(".strokes")));
      this.looks = [...root.querySelectorAll(".colors")];
      this.keys = [...root.querySelectorAll(".key")];
      this.colors = this.gl.createBuffer();
      this.size = root.querySelector("input");
      this.choice = root.querySelector("select");
      this.listen();
      this.look();
    }

    program() {
      const gl = this.gl, program = gl.createProgram();
      for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, text);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
      }
      gl.bindAttribLocation(program, 0, "place");
      gl.bindAttribLocation(program, 1, "color");
      gl.linkProgram(program);
      gl.useProgram(program);
      gl.enableVertexAttribArray(0);
      gl.enableVertexAttribArray(1);
      gl.enable(gl.DEPTH_TEST);
      this.uniforms = ["screen", "size", "disk"].map((name) => gl.getUniformLocation(program, name));
    }

    buffer(data) {
      const gl = this.gl, made = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, made);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      return made;
    }

    listen() {
      const canvas = this.canvas, held = new Map();
      canvas.addEventListener("pointerdown", (event) => {
        held.set(event.pointerId, event);
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        const last = held.get(event.pointerId);
        if (!last) return;
        const across = event.clientX - last.clientX, down = event.clientY - last.clientY;
        if (held.size > 1) this.eye.approach(Math.exp(-down * 0.005));
        else if (last.button === 2 || last.shiftKey) this.eye.move(across, down, canvas.clientHeight);
        else this.eye.turn(across, down);
        held.set(event.pointerId, {clientX: event.clientX, clientY: event.clientY, button: last.button,
                                   shiftKey: last.shiftKey});
        this.draw();
      });
      for (const name of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(name, (event) => held.delete(event.pointerId));
      }
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.eye.approach(Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 200) * 0.001));
        this.draw();
      }, {passive: false});
      canvas.addEventListener("dblclick", () => { this.eye.restore(); this.draw(); });
      canvas.addEventListener("keydown", (event) => this.key(event));
      this.choice.addEventListener("change", () => this.look());
      this.size.addEventListener("input", () => this.draw());
      for (const button of this.root.querySelectorAll(".key button")) {
        button.addEventListener("click", () => {
          button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "false");
          this.look();
        });
      }
      new ResizeObserver(() => this.draw()).observe(canvas);
    }

    key(event) {
      const steps = {ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20]};
      if (event.key in steps) this.eye.turn(...steps[event.key]);
      else if (event.key === "+") this.eye.approach(0.9);
      else if (event.key === "-") this.eye.approach(1 / 0.9);
      else return;
      event.preventDefault();
      this.draw();
    }

    // Other colours: red, green, blue, and the line of the legend, from 1; 0 is left out, 255 has none.
    look() {
      const chosen = Number(this.choice.value), colors = bytes(this.looks[chosen]), shown = new Uint8Array(256).fill(255);
      shown[0] = 0;
      this.keys.forEach((key, at) => { key.hidden = at !== chosen; });
      this.keys[chosen].querySelectorAll("button").forEach((button, at) => {
        if (button.getAttribute("aria-pressed") === "false") shown[at + 1] = 0;
      });
      for (let at = 3; at < colors.length; at += 4) colors[at] = shown[colors[at]];
      this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.colors);
      this.gl.bufferData(this.gl.ARRAY_BUFFER, colors, this.gl.STATIC_DRAW);
      this.draw();
    }

    draw() {
      const gl = this.gl, canvas = this.canvas, dense = window.devicePixelRatio || 1;
      const width = Math.max(1, Math.round(canvas.clientWidth * dense));
      const height = Math.max(1, Math.round(canvas.clientHeight * dense));
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      gl.viewport(0, 0, width, height);
      gl.clearColor(19 / 255, 21 / 255, 27 / 255, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      const pixels = Number(this.size.value) * height / Math.tan(FIELD_OF_VIEW / 2) / 2;
      gl.uniformMatrix4fv(this.uniforms[0], false, this.eye.screen(width / height));
      gl.uniform1f(this.uniforms[1], pixels);
      this.part(this.points, this.colors, gl.POINTS, Number(this.root.dataset.points), 1);
      this.part(this.lines, this.strokes, gl.LINES, Number(this.root.dataset.ends), 0);
    }

    part(places, colors, kind, count, disk) {
      const gl = this.gl;
      if (!count) return;
      gl.uniform1f(this.uniforms[2], disk);
      gl.bindBuffer(gl.ARRAY_BUFFER, places);
      gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
      gl.bindBuffer(gl.ARRAY_BUFFER, colors);
      gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
      gl.drawArrays(kind, 0, count);
    }
  }

  for (const root of document.querySelectorAll(".scene")) new Scene(root);
})();
