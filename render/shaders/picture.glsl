// The camera's picture, pixel for pixel.
#if defined VERTEX_SHADER
void main() {
    gl_Position = vec4(gl_VertexID % 2 * 4 - 1, gl_VertexID / 2 * 4 - 1, 0.0, 1.0);
}
#else
uniform sampler2D image;
out vec4 out_colour;

void main() {
    out_colour = vec4(texelFetch(image, ivec2(gl_FragCoord.xy), 0).rgb, 1.0);
}
#endif
