// The face model: a neutral face, sparse expressions, a camera. Each vertex becomes a texel of the target.
#if defined VERTEX_SHADER
uniform mat4 to_picture;
uniform float weights[WEIGHTS];
uniform sampler2D deltas;  // mm, expression
uniform ivec2 size;        // of the target
in vec3 in_neutral;
in ivec2 in_span;  // of this vertex in `deltas`
flat out vec3 place;

void main() {
    vec3 position = in_neutral;
    for (int i = in_span.x; i < in_span.x + in_span.y; ++i) {
        vec4 delta = texelFetch(deltas, ivec2(i % COLUMNS, i / COLUMNS), 0);
        position += weights[int(delta.w)] * delta.xyz;
    }
    place = (to_picture * vec4(position, 1.0)).xyz;
    vec2 texel = vec2(gl_VertexID % COLUMNS, gl_VertexID / COLUMNS) + 0.5;
    gl_Position = vec4(2.0 * texel / vec2(size) - 1.0, 0.0, 1.0);
}
#else
flat in vec3 place;
out vec4 out_place;

void main() {
    out_place = vec4(place, 1.0);
}
#endif
