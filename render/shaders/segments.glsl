// Strokes with round ends, smoothed over one pixel: one quad each.
#if defined VERTEX_SHADER
uniform vec2 size;  // of the picture, px
in vec4 in_ends;    // x0, y0, x1, y1, px
in float in_radius;
in vec4 in_colour;  // 0-255, alpha 0-1
flat out vec4 ends;
flat out float radius;
flat out vec4 colour;

void main() {
    vec2 along = in_ends.zw - in_ends.xy;
    along = length(along) > 0.0 ? normalize(along) : vec2(1.0, 0.0);
    vec2 across = vec2(-along.y, along.x);
    float reach = in_radius + 1.0;
    vec2 end = gl_VertexID < 2 ? in_ends.xy - reach * along : in_ends.zw + reach * along;
    vec2 corner = end + (gl_VertexID % 2 == 0 ? reach : -reach) * across;
    gl_Position = vec4(2.0 * corner / size - 1.0, 0.0, 1.0);
    ends = in_ends;
    radius = in_radius;
    colour = vec4(in_colour.rgb / 255.0, in_colour.a);
}
#else
flat in vec4 ends;
flat in float radius;
flat in vec4 colour;
out vec4 out_colour;

void main() {
    vec2 along = ends.zw - ends.xy, from_start = gl_FragCoord.xy - ends.xy;
    float t = clamp(dot(from_start, along) / max(dot(along, along), 1e-12), 0.0, 1.0);
    float cover = clamp(radius + 0.5 - distance(from_start, t * along), 0.0, 1.0);
    out_colour = vec4(colour.rgb, colour.a * cover);
}
#endif
