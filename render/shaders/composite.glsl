// Averages the four samples of each pixel of the layer; blending lays them over the picture.
#if defined VERTEX_SHADER
void main() {
    gl_Position = vec4(gl_VertexID % 2 * 4 - 1, gl_VertexID / 2 * 4 - 1, 0.0, 1.0);
}
#else
uniform sampler2DMS layer;
uniform ivec2 origin;  // of the layer in the picture
out vec4 out_colour;

void main() {
    ivec2 pixel = ivec2(gl_FragCoord.xy) - origin;
    vec4 sum = texelFetch(layer, pixel, 0) + texelFetch(layer, pixel, 1);
    sum += texelFetch(layer, pixel, 2) + texelFetch(layer, pixel, 3);
    out_colour = 0.25 * sum;
}
#endif
