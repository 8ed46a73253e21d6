// The mesh, coloured at the vertices: lit skin, depth, normals, or a code of their own. Positions: deform.glsl.
#if defined VERTEX_SHADER
uniform mat4 pixel_to_clip;
uniform sampler2D positions;
uniform isampler2D rings;    // the triangles around a vertex, by their other corners
uniform float px_per_mm;
uniform float origin_mm;     // depth of the model's origin
uniform int paint;
uniform vec3 harmonics[9];   // of the light, BGR
in vec4 in_albedo;  // BGR, opacity; or a code, 1
in ivec2 in_span;   // of this vertex in `rings`
centroid out vec4 colour;

vec3 position(int vertex) {
    return texelFetch(positions, ivec2(vertex % COLUMNS, vertex / COLUMNS), 0).xyz;
}

vec3 normal_at(vec3 here) {
    vec3 to_px = vec3(1.0, 1.0, px_per_mm), sum = vec3(0.0);
    for (int i = in_span.x; i < in_span.x + in_span.y; ++i) {
        ivec2 corners = texelFetch(rings, ivec2(i % COLUMNS, i / COLUMNS), 0).xy;
        // y down mirrors the axes, hence the second edge first
        sum += cross((position(corners.y) - here) * to_px, (position(corners.x) - here) * to_px);
    }
    return length(sum) > 0.0 ? normalize(sum) : sum;
}

// as render/geometry.py, lit_colours
vec4 skin(vec3 normal) {
    float key = max(dot(normal, vec3(-0.34, -0.46, 0.82)), 0.0);
    float light = 0.20 + 0.24 * (0.5 - 0.5 * normal.y) + 0.62 * key;
    float shine = 0.16 * pow(max(dot(normal, vec3(-0.178, -0.241, 0.954)), 0.0), 32.0);
    float alpha = in_albedo.a * (0.28 + 0.35 * min(max(normal.z, 0.0) * 2.2, 1.0));
    return vec4(min(light * in_albedo.rgb + shine, 1.0) * alpha, alpha);
}

// as tracker/lighting.py, basis; y up
vec4 lit(vec3 normal) {
    float x = normal.x, y = -normal.y, z = normal.z;
    vec3 shade = C0 * harmonics[0] - C1 * y * harmonics[1] + C1 * z * harmonics[2] - C1 * x * harmonics[3]
        + C2 * (x * y * harmonics[4] - y * z * harmonics[5] + 0.5 / sqrt(3.0) * (3.0 * z * z - 1.0) * harmonics[6]
                - x * z * harmonics[7] + 0.5 * (x * x - y * y) * harmonics[8]);
    float alpha = in_albedo.a * clamp(z / FADE, 0.0, 1.0);
    return vec4(clamp(in_albedo.rgb * max(shade, 0.0), 0.0, 1.0) * alpha, alpha);
}

void main() {
    vec3 here = position(gl_VertexID);
    gl_Position = pixel_to_clip * vec4(here, 1.0);
    if (paint == PAINT_SKIN) {
        colour = skin(normal_at(here));
    } else if (paint == PAINT_LIT) {
        colour = lit(normal_at(here));
    } else if (paint == PAINT_DEPTH) {
        float nearer = (here.z - origin_mm - DEPTH_FAR_MM) / (DEPTH_NEAR_MM - DEPTH_FAR_MM);
        colour = vec4(vec3(clamp(40.0 + 215.0 * nearer, 40.0, 255.0) / 255.0), 1.0);
    } else if (paint == PAINT_NORMALS) {
        colour = vec4(0.5 + 0.5 * normal_at(here).zyx * vec3(1.0, -1.0, 1.0), 1.0);
    } else {
        colour = in_albedo;
    }
}
#else
centroid in vec4 colour;
out vec4 out_colour;

void main() {
    out_colour = colour;
}
#endif
