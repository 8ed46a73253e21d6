"""Operations on triangle meshes: exact cuts, border loops, simplification that keeps a subset of the vertices."""

from __future__ import annotations

import heapq

import numpy as np


def edges_of(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Undirected edges, (E, 2), and how many triangles share each, (E,)."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)


def border_loops(triangles: np.ndarray) -> list[np.ndarray]:
    """Closed loops of border vertices, longest first, each in the direction of its triangles' edges."""
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    present = {tuple(edge) for edge in directed.tolist()}
    following = {a: b for a, b in present if (b, a) not in present}
    loops = []
    while following:
        start, nxt = following.popitem()
        loop = [start]
        while nxt != start:
            loop.append(nxt)
            nxt = following.pop(nxt)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def cut(rows: np.ndarray, triangles: np.ndarray, height: np.ndarray, snap: float = 0.2):
    """Keep the part of a mesh where `height` >= 0, cut exactly along its zero line.

    Parameters
    ----------
    rows : (N, D) float, whatever belongs to a vertex and may be interpolated
    triangles : (F, 3) int
    height : (N,) float, linear along edges
    snap : an edge that is cut this near to its kept end, as a share, ends there: no slivers

    Returns
    -------
    rows, triangles, and the old index of each kept vertex (-1 for new ones)
    """
    height = height.astype(np.float64).copy()
    edges, _ = edges_of(triangles)
    above, below = height[edges[:, 0]], height[edges[:, 1]]
    crossing = edges[(above > 0) != (below > 0)]
    share = height[crossing[:, 0]] / (height[crossing[:, 0]] - height[crossing[:, 1]])
    for end, distance in ((0, share), (1, 1 - share)):
        height[crossing[distance < snap, end]] = 0.0
    new_rows, new_triangles, made = [rows], [], {}
    count = len(rows)

    def point_between(a: int, b: int) -> int:
        nonlocal count
        key = (min(a, b), max(a, b))
        if key not in made:
            t = height[key[0]] / (height[key[0]] - height[key[1]])
            new_rows.append(((1 - t) * rows[key[0]] + t * rows[key[1]])[None])
            made[key] = count
            count += 1
        return made[key]

    for triangle in triangles.tolist():
        signs = np.sign(height[triangle])
        if (signs >= 0).all():
            new_triangles.append(triangle)
            continue
        if (signs <= 0).all():
            continue
        polygon = []
        for i in range(3):
            a, b = triangle[i], triangle[(i + 1) % 3]
            if height[a] >= 0:
                polygon.append(a)
            if height[a] * height[b] < 0:
                polygon.append(point_between(a, b))
        new_triangles += [[polygon[0], polygon[i], polygon[i + 1]] for i in range(1, len(polygon) - 1)]
    return compact(np.concatenate(new_rows), np.array(new_triangles), len(rows))


def compact(rows: np.ndarray, triangles: np.ndarray, count_old: int | None = None):
    """Drop vertices without a triangle; returns rows, triangles, old indices (-1 for those from `count_old` on)."""
    used = np.unique(triangles)
    new = np.full(len(rows), -1)
    new[used] = np.arange(len(used))
    old = used.copy()
    if count_old is not None:
        old[old >= count_old] = -1
    return rows[used], new[triangles].astype(np.int32), old


def simplify(
    points: np.ndarray,
    triangles: np.ndarray,
    free: np.ndarray,
    count: int,
    cost_factor: np.ndarray | None = None,
    triangles_left: int = 0,
) -> np.ndarray:
    """Remove `count` vertices by collapsing edges onto one of their ends; the others stay where they are.

    Parameters
    ----------
    points : (N, 3) float
    triangles : (F, 3) int
    free : (N,) bool, vertices that may go; border vertices go only along the border
    count : how many should go; fewer do where nothing more can
    cost_factor : (N,) float; a vertex with 10 is kept ten times as eagerly
    triangles_left : end when no more are left

    Returns
    -------
    (f, 3) int32, triangles over the same vertices

    Source: Garland and Heckbert, "Surface simplification using quadric error metrics" (SIGGRAPH 1997), with the ends
    of an edge as the only places for the new vertex.
    """
    factor = np.ones(len(points)) if cost_factor is None else cost_factor
    faces = {index: list(map(int, triangle)) for index, triangle in enumerate(triangles)}
    around: dict[int, set[int]] = {}
    quadrics = np.zeros((len(points), 4, 4))
    for index, face in faces.items():
        a, b, c = points[face]
        normal = np.cross(b - a, c - a)
        area = np.linalg.norm(normal)
        if area > 0:
            plane = np.append(normal / area, -(normal / area) @ a)
            quadrics[face] += np.outer(plane, plane) * area
        for vertex in face:
            around.setdefault(vertex, set()).add(index)
    border = set()
    edges, shared = edges_of(triangles)
    for a, b in edges[shared == 1].tolist():
        border |= {a, b}
        # a plane through the border edge, upright on its triangle, keeps the border's course
        (face,) = around[a] & around[b]
        p, q, r = points[faces[face]]
        normal = np.cross(np.cross(q - p, r - p), points[b] - points[a])
        length = np.linalg.norm(normal)
        if length > 0:
            plane = np.append(normal / length, -(normal / length) @ points[a])
            weighted = np.outer(plane, plane) * ((points[b] - points[a]) ** 2).sum() * 10
            quadrics[a] += weighted
            quadrics[b] += weighted
    version = np.zeros(len(points), int)
    heap: list[tuple[float, int, int, int, int]] = []

    def neighbours(vertex: int) -> set[int]:
        return {other for face in around[vertex] for other in faces[face]} - {vertex}

    def offer(vertex: int) -> None:
        if not free[vertex]:
            return
        for other in neighbours(vertex):
            if vertex in border and other not in border:
                continue
            place = np.append(points[other], 1.0)
            cost = place @ (quadrics[vertex] + quadrics[other]) @ place
            cost += 1e-4 * ((points[vertex] - points[other]) ** 2).sum()
            heapq.heappush(heap, (cost * factor[vertex], vertex, other, version[vertex], version[other]))

    def may_collapse(vertex: int, other: int) -> bool:
        shared_faces = around[vertex] & around[other]
        common = neighbours(vertex) & neighbours(other)
        if len(common) != len(shared_faces) or (vertex in border and len(shared_faces) != 1):
            return False
        for face in around[vertex] - shared_faces:
            before = points[faces[face]]
            after = points[[other if v == vertex else v for v in faces[face]]]
            n0 = np.cross(before[1] - before[0], before[2] - before[0])
            n1 = np.cross(after[1] - after[0], after[2] - after[0])
            l0, l1 = np.linalg.norm(n0), np.linalg.norm(n1)
            sides = ((after - np.roll(after, 1, axis=0)) ** 2).sum(axis=1).max()
            if l1 < 0.1 * sides or n0 @ n1 < 0.5 * l0 * l1:
                return False
        return True

    for vertex in list(around):
        offer(vertex)
    removed = 0
    while heap and removed < count and len(faces) > triangles_left:
        _, vertex, other, seen, seen_other = heapq.heappop(heap)
        if version[vertex] != seen or version[other] != seen_other or vertex not in around:
            continue
        if not may_collapse(vertex, other):
            continue
        touched = neighbours(vertex)
        for face in around.pop(vertex):
            if other in faces[face]:
                for corner in faces[face]:
                    if corner != vertex:
                        around[corner].discard(face)
                del faces[face]
            else:
                faces[face] = [other if v == vertex else v for v in faces[face]]
                around[other].add(face)
        quadrics[other] += quadrics[vertex]
        version[vertex] += 1
        removed += 1
        for v in touched:
            version[v] += 1
        for v in touched:
            offer(v)
    return np.array(list(faces.values()), np.int32)
