// A picture whose first row is its top, on a screen that counts from the bottom; B, G, R become R, G, B.
#if defined VERTEX_SHADER
uniform bool mirror;
out vec2 place;

void main() {
    vec2 corner = vec2(gl_VertexID % 2 * 2, gl_VertexID / 2 * 2);
    gl_Position = vec4(2.0 * corner - 1.0, 0.0, 1.0);
    place = vec2(mirror ? 1.0 - corner.x : corner.x, 1.0 - corner.y);
}
#else
uniform sampler2D image;
in vec2 place;
out vec4 out_colour;

void main() {
    out_colour = texture(image, place).bgra;
}
#endif
