// The mesh: image px to clip space by one matrix; colours were lit at the vertices.
#if defined VERTEX_SHADER
uniform mat4 pixel_to_clip;
in vec3 in_position;
in vec4 in_colour;
centroid out vec4 colour;

void main() {
    gl_Position = pixel_to_clip * vec4(in_position, 1.0);
    colour = in_colour;
}
#else
centroid in vec4 colour;
out vec4 out_colour;

void main() {
    out_colour = colour;
}
#endif
