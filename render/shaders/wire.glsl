// Lines along the edges of triangles whose inside is clear but hides what is behind. Positions: deform.glsl.
#if defined VERTEX_SHADER
uniform mat4 pixel_to_clip;
uniform sampler2D positions;
uniform vec3 wire_colour;  // BGR
in vec4 in_albedo;  // BGR, opacity
out vec4 corner_colour;
out vec2 corner_px;

void main() {
    vec3 here = texelFetch(positions, ivec2(gl_VertexID % COLUMNS, gl_VertexID / COLUMNS), 0).xyz;
    gl_Position = pixel_to_clip * vec4(here, 1.0);
    corner_colour = 0.8 * in_albedo.a * vec4(wire_colour, 1.0);
    corner_px = here.xy;
}
#elif defined GEOMETRY_SHADER
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
in vec4 corner_colour[];
in vec2 corner_px[];
centroid out vec4 colour;
out vec3 distance_px;  // from the three edges, at the middle of the pixel

void main() {
    for (int i = 0; i < 3; ++i) {
        vec2 a = corner_px[(i + 1) % 3], b = corner_px[(i + 2) % 3], p = corner_px[i];
        vec2 edge = b - a;
        distance_px = vec3(0.0);
        distance_px[i] = abs(edge.x * (p.y - a.y) - edge.y * (p.x - a.x)) / max(length(edge), 1e-6);
        colour = corner_colour[i];
        gl_Position = gl_in[i].gl_Position;
        EmitVertex();
    }
    EndPrimitive();
}
#else
uniform float wire_px;
centroid in vec4 colour;
in vec3 distance_px;
out vec4 out_colour;

void main() {
    float nearest = min(distance_px.x, min(distance_px.y, distance_px.z));
    out_colour = colour * clamp(wire_px + 0.5 - nearest, 0.0, 1.0);
}
#endif
