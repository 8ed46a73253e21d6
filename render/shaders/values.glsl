// Depth as a number, for the depth map. Positions: deform.glsl.
#if defined VERTEX_SHADER
uniform mat4 pixel_to_clip;
uniform sampler2D positions;
uniform float origin_mm;  // depth of the model's origin
out float value;

void main() {
    vec3 here = texelFetch(positions, ivec2(gl_VertexID % COLUMNS, gl_VertexID / COLUMNS), 0).xyz;
    gl_Position = pixel_to_clip * vec4(here, 1.0);
    value = clamp(DEPTH_MAP_ORIGIN + DEPTH_MAP_PER_MM * (here.z - origin_mm), 1.0, 65535.0);
}
#else
in float value;
out float out_value;

void main() {
    out_value = value;
}
#endif
