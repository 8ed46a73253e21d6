// The face model: a neutral face, sparse expressions, a camera.
uniform mat4x3 to_picture;
uniform float weights[WEIGHTS];
uniform sampler2D deltas;  // mm, expression
in vec3 in_neutral;
in ivec2 in_span;  // of this vertex in `deltas`
out vec4 place;

void main() {
    vec3 position = in_neutral;
    for (int i = in_span.x; i < in_span.x + in_span.y; ++i) {
        vec4 delta = texelFetch(deltas, ivec2(i % COLUMNS, i / COLUMNS), 0);
        position += weights[int(delta.w)] * delta.xyz;
    }
    place = vec4(to_picture * vec4(position, 1.0), 1.0);
}
