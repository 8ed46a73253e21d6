// One number per vertex, for the depth map.
#if defined VERTEX_SHADER
uniform mat4 pixel_to_clip;
in vec3 in_position;
in float in_value;
out float value;

void main() {
    gl_Position = pixel_to_clip * vec4(in_position, 1.0);
    value = in_value;
}
#else
in float value;
out float out_value;

void main() {
    out_value = value;
}
#endif
